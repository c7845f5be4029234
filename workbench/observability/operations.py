"""Ended operations of Spark on their way from kernels, which nobody can ask, to a process whose metrics are read.

Each is one datagram to a Unix socket in a private folder: what is sent costs a system call, nobody waits for it, and
what nobody receives is lost. It says how an operation has ended and how long it took, and nothing of what it was.
"""

from __future__ import annotations

import contextlib
import json
import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workbench.background import Background

VARIABLE = "WORKBENCH_SPARK_REPORTS"  #: has the address of the socket; see `SparkSettings.reports`
KERNEL, STEP, FLOW = "kernel", "step", "flow"  #: whose operations they are
OUTCOMES = ("done", "failed", "cancelled", "lost")  #: of `transformation.progress.Outcome`, those of an end
LONGEST_SECONDS = 30 * 86_400.0
MOST_BYTES = 200
MOST_REPORTED = 1_000  #: that a user's server tells the hub of at once
END_SECONDS = 2.0  #: that the end waits for what is being taken


@dataclass(frozen=True)
class Ended:
    """How an operation has ended.

    Args:
        outcome: one of OUTCOMES.
        seconds: that it took.
    """

    outcome: str
    seconds: float

    def as_bytes(self) -> bytes:
        """As a datagram."""
        return json.dumps({"outcome": self.outcome, "seconds": round(self.seconds, 6)}).encode()


def read_ended(outcome: object, seconds: object) -> Ended | None:
    """What somebody says of an operation; None when it is no operation that can have been."""
    if not isinstance(seconds, float | int) or isinstance(seconds, bool) or outcome not in OUTCOMES:
        return None
    is_possible = math.isfinite(seconds) and 0 <= seconds <= LONGEST_SECONDS
    return Ended(str(outcome), float(seconds)) if is_possible else None


def parse_ended(datagram: bytes) -> Ended | None:
    """A datagram; None when it is none of ours."""
    try:
        said = json.loads(datagram)
        return read_ended(said["outcome"], said["seconds"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def send_ended(address: Path, ended: Ended) -> None:
    """Tell whoever receives at *address*; when nobody does, or too much waits there, it is lost."""
    _send(address, ended.as_bytes())


@contextmanager
def receiving(address: Path, take: Callable[[Ended], object]) -> Iterator[None]:
    """Take what is sent to *address* while the context is open, in a thread; then the socket is removed.

    Args:
        address: in a private folder: whoever may write there is believed. At most 100 characters.
        take: called with each operation, those included that were sent before the end.

    Raises:
        OSError: when there can be no socket.
    """
    address.unlink(missing_ok=True)
    ending = threading.Event()

    def work(_: threading.Event) -> None:
        while (datagram := receiver.recv(MOST_BYTES)) or not ending.is_set():
            if (ended := parse_ended(datagram)) is not None:
                take(ended)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(address))
        try:
            with Background("spark-operations", work, end_seconds=END_SECONDS):
                try:
                    yield
                finally:
                    ending.set()
                    _send(address, b"", seconds=END_SECONDS)
        finally:
            address.unlink(missing_ok=True)


def _send(address: Path, datagram: bytes, *, seconds: float = 0.0) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(seconds)
        sender.sendto(datagram, str(address))
