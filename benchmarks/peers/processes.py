"""Peers that run as processes of their own: started in a folder, waited for, and ended with all that they have started."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.services.process_tree import stop

STOP_SECONDS = 20
LOG_TAIL_CHARACTERS = 3000
LOOK_SECONDS = 0.005
RUN_SECONDS = 180


class PeerFailed(Exception):
    """A peer has ended, or has not done in time what it was asked for."""


@contextmanager
def running(
    name: str, command: list[str], folder: Path, environment: Mapping[str, str], *, talks: bool = False
) -> Iterator[PeerProcess]:
    """Start *command* in *folder*; what it says is in NAME.log there. Nothing of it runs in the end.

    Args:
        name: of the log.
        command: without secrets, which go into *environment*.
        folder: also its HOME, so that nothing of the person's own is read or written.
        environment: beside PATH, with the folder of the program first.
        talks: whether it answers lines of JSON on its standard output, instead of logging there.
    """
    path = f"{Path(command[0]).parent}:{os.environ.get('PATH', os.defpath)}"
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={"PATH": path, "HOME": str(folder), **environment},
            cwd=folder,
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield PeerProcess(process, folder / f"{name}.log")
    finally:
        end(process)


class PeerProcess:
    """One that runs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log

    def demand_alive(self) -> None:
        """Raise when it has ended.

        Raises:
            PeerFailed: with the end of its log.
        """
        if self._process.poll() is not None:
            raise self.failed(f"it has ended with code {self._process.returncode}")

    def wait(self, seconds: float) -> None:
        """Wait for its end.

        Raises:
            PeerFailed: when it has ended with an error.
            subprocess.TimeoutExpired: when it has not ended.
        """
        if self._process.wait(seconds):
            self.demand_alive()

    def failed(self, what: str) -> PeerFailed:
        """An error with the end of the log."""
        return PeerFailed(f"{what}\n{self._log.read_text(encoding='utf-8', errors='replace')[-LOG_TAIL_CHARACTERS:]}")

    def tell(self, question: dict[str, Any]) -> None:
        """Send one line of JSON."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for one line of JSON.

        Raises:
            PeerFailed: when it ends instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(STOP_SECONDS)
            self.demand_alive()
        answer: dict[str, Any] = json.loads(line)
        return answer


def wait_for_notebook(folder: Path, pattern: str, process: PeerProcess, began: float) -> float:
    """Seconds since *began* until a notebook with an end is there whole, which is looked at every 5 ms.

    Args:
        folder: where it will be.
        pattern: of its name.
        process: who makes it.
        began: of `time.perf_counter`.

    Raises:
        PeerFailed: when it does not come.
    """
    while time.perf_counter() - began < RUN_SECONDS:
        for found in folder.glob(pattern):
            if is_executed(found):
                return time.perf_counter() - began
        process.demand_alive()
        time.sleep(LOOK_SECONDS)
    raise process.failed(f"there is no whole {pattern} in {folder} after {RUN_SECONDS} s")


def is_executed(path: Path) -> bool:
    """Whether a file is a whole notebook, and papermill, if it has written it, has ended."""
    try:
        notebook = json.loads(path.read_bytes())
    except ValueError:  # it is being written
        return False
    papermill = notebook["metadata"].get("papermill")
    return papermill is None or papermill["end_time"] is not None


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its descendants."""
    stop(process, seconds=STOP_SECONDS)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
