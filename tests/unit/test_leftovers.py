from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from tests.services.process_tree import has_ended
from tests.services.workbench import wait_until

STARTS_ONE = """
import subprocess, sys
from tests.services.leftovers import end_with_this_process
watcher = end_with_this_process()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
input()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="environments of processes are read from /proc")
def test_what_a_killed_process_of_tests_has_started_is_ended():
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as tests:
        started = psutil.Process(int(tests.stdout.readline()))
        assert started.is_running()
        tests.kill()

    wait_until(lambda: has_ended(started), 10, "the child to end")
