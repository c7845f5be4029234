"""No room and no memory while a notebook runs: the run says so, and nothing of it is called a success."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.services.workbench import wait_until

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


HUNGRY = """
import json, os, sys
from pathlib import Path
from tests.services.notebooks import make_job, ran
Path(sys.argv[2], "cgroup.procs").write_text(str(os.getpid()))
outcome = ran(make_job(Path(sys.argv[1]), "taken = bytearray(10)\\nwhile True: taken += b'x' * 10_000_000"))
print(json.dumps([outcome.state, outcome.signal, outcome.is_out_of_memory, outcome.message, outcome.peak_memory_bytes]))
"""
MEMORY_BYTES = 300_000_000


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group that may have 300 MB."""
    groups = Path("/sys/fs/cgroup")
    parent, limit = (groups / "memory", "limit_in_bytes") if (groups / "memory").is_dir() else (groups, "max")
    group = parent / f"workbench-test-{secrets.token_hex(4)}"
    try:
        group.mkdir()
        (group / f"memory.{limit}").write_text(str(MEMORY_BYTES))
    except OSError as error:
        needs(condition=False, what=f"a control group for memory ({error})")
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text(), 20, "the end of what is in the group")
    group.rmdir()


def test_want_of_memory_is_named_when_it_killed_the_kernel(tmp_path, memory_group):
    command = [sys.executable, "-c", HUNGRY, str(tmp_path), str(memory_group)]

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    state, signal, is_out_of_memory, message, peak = json.loads(done.stdout)
    assert (state, signal, is_out_of_memory) == ("kernel_died", "SIGKILL", True)
    assert "likely for want of memory; its memory peaked at" in message
    assert peak > 100_000_000


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
