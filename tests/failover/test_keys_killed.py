"""kill -9 at every point at which a rotation, a rewrap, a new file or a retirement writes something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_keyset_and_files_are_readable_wherever_a_change_is_killed(tmp_path: Path):
    root = Path(__file__).parents[2]

    done = subprocess.run(
        [sys.executable, "-m", "tests.services.killed_keys", str(tmp_path / "home")],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["killed"] >= 60
    assert result["primary"] == 2
