"""A disk that fills while a notebook runs: the run says so, nothing of it is called a success, and its kernel is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import needs

ROOT = Path(__file__).parents[2]
DISK = "300k"
EXECUTING = """
import json, sys
from dataclasses import replace
from pathlib import Path
from tests.services.notebooks import make_job, ran
from pipelines.engine.record.notebook import read_notebook
small, large = map(Path, sys.argv[1:])
job = make_job(large, "print('before')", "for n in range(1000): print(n, 'x' * 1000, flush=True)", "print('after')")
job = replace(job, log=small / "log.jsonl", output=small / "out" / "n.ipynb")
outcome = ran(job)
notebook = read_notebook(job.log)
print(json.dumps({
    "state": outcome.state, "output": outcome.output, "message": outcome.message, "remedy": outcome.remedy,
    "before": notebook["cells"][0]["outputs"][0]["text"], "lost": notebook["metadata"]["workbench"]["state"],
    "files": sorted(each.name for each in small.rglob("*")),
}))
"""


def test_a_full_disk_is_no_success_and_no_fault_of_the_notebook(tmp_path):
    needs(os.geteuid() == 0 and shutil.which("unshare") is not None, "root and unshare")
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    mounting = f'mount -t tmpfs -o size={DISK},mode=700 tmpfs {small} && exec "$@"'
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        mounting,
        "sh",
        sys.executable,
        "-c",
        EXECUTING,
        str(small),
        str(large),
    ]

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["state"], outcome["output"]) == ("infrastructure_error", None)
    assert "cannot be written: No space left on device" in outcome["message"]
    assert outcome["remedy"].startswith("Make room")
    assert (outcome["before"], outcome["lost"]) == ("before\n", "lost")
    assert outcome["files"] == ["log.jsonl", "out"]
