"""Ended operations of Spark on their way from kernels, which nobody can ask, to a process whose metrics are read.

It says how an operation has ended and how long it took, and nothing of what it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workbench.observability import datagrams

VARIABLE = "WORKBENCH_SPARK_REPORTS"  #: has the address of the socket; see `SparkSettings.reports`
KERNEL, STEP, FLOW = "kernel", "step", "flow"  #: whose operations they are
OUTCOMES = ("done", "failed", "cancelled", "lost")  #: of `transformation.progress.Outcome`, those of an end
LONGEST_SECONDS = 30 * 86_400.0
MOST_BYTES = 200
MOST_REPORTED = 1_000  #: that a user's server tells the hub of at once


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
    datagrams.send(address, ended.as_bytes())


@contextmanager
def receiving(address: Path, take: Callable[[Ended], object]) -> Iterator[None]:
    """Take what is sent to *address* while the context is open, in a thread; then the socket is removed.

    Args:
        address: in a private folder: whoever may write there is believed. At most 100 characters.
        take: called with each operation, those included that were sent before the end.

    Raises:
        OSError: when there can be no socket.
    """

    def hear(datagram: bytes) -> None:
        if (ended := parse_ended(datagram)) is not None:
            take(ended)

    with datagrams.receiving(address, hear, name="spark-operations", most_bytes=MOST_BYTES):
        yield
