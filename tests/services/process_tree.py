"""What runs now, though any of it may end meanwhile, and the end of servers with all that they have started."""

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


def processes_of(uid: int) -> list[psutil.Process]:
    """Those that run as this user."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if uid in process.uids():
                found.append(process)
    return found


def arguments(process: psutil.Process) -> list[str]:
    """Its command line; empty when it has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or only has not been waited for."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def stop(*processes: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> None:
    """Tell them to end, as in the product the guard does, and kill what is left after *seconds*: a hub that is told very early leaves its proxy."""
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
