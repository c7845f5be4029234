"""The end of servers with all that they have started, which in the product the guard sees to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from contextlib import suppress

import psutil

STOP_SECONDS = 30


def process_tree(*pids: int) -> list[psutil.Process]:
    """The processes that still run, and everything that they have started."""
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            found += [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return found


def stop(*processes: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> None:
    """Tell them to end, and kill what is left after *seconds*: a hub that is told very early leaves its proxy."""
    everything = process_tree(*(each.pid for each in processes if each.poll() is None))
    for each in processes:
        each.terminate()
    for each in processes:
        with suppress(subprocess.TimeoutExpired):
            each.wait(seconds)
    kill(everything)
    for each in processes:
        each.wait(seconds)


def kill(processes: Iterable[psutil.Process]) -> None:
    """`kill -9`, and wait until they are gone."""
    gone = list(processes)
    for each in gone:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(gone, STOP_SECONDS)
