"""Runs one server and ends it, and all it started, when the workbench goes away.

A script of the standard library alone, started by its path, so that it costs 8 MB and no
imports. It holds the read end of a pipe whose write end only the supervisor has: when the
supervisor dies, by kill -9 too, the kernel closes that end and the guard stops the server.

    guard.py LIFELINE_FD LOCK_FILE STOP_SIGNAL STOP_SECONDS -- COMMAND…

The lock file is held as long as the server runs, so that nobody starts a second one on the
same data folder. Exits with the server's code, 128 + N after signal N.

Over a lifeline that is a socket the guard also tells what only a parent learns: the server's
process id in a first line, and in a second its code (-N after signal N) and the peak of its
memory in bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LOCK_SECONDS = 10.0
LOCK_TAKEN = 75  # EX_TEMPFAIL of sysexits.h
IS_LINUX = sys.platform == "linux"


def main(argv: list[str]) -> int:
    """Run the command of *argv* until it ends, a signal comes, or the lifeline breaks."""
    lifeline, lock_file, stop_signal, stop_seconds, _, *command = argv
    lock = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    if not _take(lock):
        return LOCK_TAKEN
    wakeup = _catch_signals()
    if IS_LINUX:
        # Orphans of the server become children of the guard, so that it can end them too.
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
    # The server inherits the lock: it is held as long as either of the two lives.
    server = subprocess.Popen(command, preexec_fn=_die_with_the_guard, start_new_session=True, pass_fds=(lock,))
    _tell(int(lifeline), server.pid)
    try:
        _wait(server, int(lifeline), wakeup)
        _stop(server, int(stop_signal), float(stop_seconds))
        _tell(int(lifeline), server.returncode, _peak_bytes())
    finally:
        _end_descendants(server.pid)
    code = server.returncode
    return code if code >= 0 else 128 - code


def _take(lock: int) -> bool:
    """Take the lock; others hold it for moments to ask, and for seconds while they end."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def _catch_signals() -> int:
    read_end, write_end = os.pipe()
    for end in (read_end, write_end):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(write_end)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return read_end


def _die_with_the_guard() -> None:
    if IS_LINUX:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _tell(lifeline: int, *facts: int) -> None:
    """Write a line to a lifeline that is a socket; a pipe is only for reading, and a supervisor may be gone."""
    with contextlib.suppress(OSError):
        os.write(lifeline, f"{' '.join(map(str, facts))}\n".encode())


def _peak_bytes() -> int:
    """The largest resident memory that one process of the server's tree had, of those that were waited for."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak * 1024 if IS_LINUX else peak


def _wait(server: subprocess.Popen[bytes], lifeline: int, wakeup: int) -> None:
    """Return when the server has ended or should be stopped."""
    with selectors.DefaultSelector() as selector:
        selector.register(lifeline, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        while server.poll() is None:
            for key, _ in selector.select():
                if key.fd == lifeline:
                    return
                if {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} & set(os.read(wakeup, 64)):
                    return
                _reap_orphans(server.pid)


def _reap_orphans(server: int) -> None:
    """Reap what came to the guard and has ended; the server's own end is for whoever asks for its code."""
    for child in _children():
        if child != server:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


def _stop(server: subprocess.Popen[bytes], stop_signal: int, seconds: float) -> None:
    if server.poll() is None:
        server.send_signal(stop_signal)
        try:
            server.wait(seconds)
        except subprocess.TimeoutExpired:
            server.kill()
    server.wait()


def _end_descendants(server: int) -> None:
    """Kill what the server left behind: its process group, and on Linux every orphan that came to the guard."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while IS_LINUX and (children := _children()) and time.monotonic() < deadline:
        for child in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def _children() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
