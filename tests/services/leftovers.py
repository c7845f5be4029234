"""Ends what a test process has started, when that process is killed before it could do so itself.

A process of pytest that is interrupted twice, or ended by its controller, runs no fixture to its end, and brokers,
databases and whole workbenches would go on. Each process of pytest therefore starts this file as a process of its own:

    leftovers.py MARK

It waits for the end of its standard input, which only that process of pytest holds open, and then ends everything that
has TEST_RUN=MARK in its environment. Needs /proc, and does nothing without it.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "TEST_RUN"
PATIENCE_SECONDS = 20.0  # `workbench up` needs them to stop its servers one after another


def end_with_this_process() -> subprocess.Popen[bytes]:
    """Mark what this process starts from now on, and have it ended after this process, however that ends."""
    mark = secrets.token_hex(8)
    command = [sys.executable, "-S", "-E", __file__, mark]
    # Without the mark of a process above this one, whose watcher would end this one's too early.
    unmarked = {name: value for name, value in os.environ.items() if name != VARIABLE}
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, env=unmarked, start_new_session=True)
    os.environ[VARIABLE] = mark
    return watcher


def marked(mark: str) -> list[int]:
    """Processes that were started with the mark, but for this one."""
    wanted, found = f"{VARIABLE}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(folder.name) != os.getpid() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def end(mark: str) -> None:
    """Tell them to end, and kill what is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked(mark):
            with suppress(OSError):
                os.kill(pid, number)
        until = time.monotonic() + PATIENCE_SECONDS
        while marked(mark) and time.monotonic() < until:
            time.sleep(0.2)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end(sys.argv[1])
