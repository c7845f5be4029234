from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.services.workbench import wait_until
from workbench.runtime import guard

LEAVES_AN_ORPHAN = """
import os, time
read_end, write_end = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.read(read_end, 1)  # until its parent has ended
    os._exit(0)
os.wait()
os.write(write_end, b"x")
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans come to the guard on Linux alone")
def test_orphans_that_have_ended_leave_no_zombies_while_the_server_runs(tmp_path: Path):
    read_end, write_end = os.pipe()
    arguments = [str(read_end), str(tmp_path / "lock"), "15", "5", "--", sys.executable, "-c", LEAVES_AN_ORPHAN]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(read_end,),
    ) as process:
        os.close(read_end)
        orphan = int(process.stdout.readline())
        try:
            wait_until(lambda: not psutil.pid_exists(orphan), 10, "the orphan to be reaped")
            assert process.poll() is None
        finally:
            os.close(write_end)
    assert process.returncode == 128 + 15
