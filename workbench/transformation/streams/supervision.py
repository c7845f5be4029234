"""A streaming query that is started again when it fails, and not when that cannot help."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from workbench.errors import SparkError, WarehouseUnavailable, WorkbenchError
from workbench.transformation.failures import telling_line
from workbench.transformation.streams.progress import Watched

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# Error classes of Spark (docs: SQL error conditions) for which the same query fails the same way again.
FATAL = (
    *("KAFKA_DATA_LOSS", "CANNOT_LOAD_CHECKPOINT", "STREAMING_CHECKPOINT", "STATE_STORE_", "STREAM_FAILED_SCHEMA"),
    *("INVALID_SCHEMA", "INCOMPATIBLE", "UNSUPPORTED_", "MISMATCHED_TOPIC_PARTITIONS", "Partitions removed"),
    *("some data may have been lost", "Some data may have been lost", "failOnDataLoss"),
)
REMEDY_FATAL = "Correct the cause, then start the stream again; it goes on from its checkpoint."


class Query(Watched, Protocol):
    """What a supervisor needs of a streaming query (pyspark's StreamingQuery)."""

    @property
    def isActive(self) -> bool:  # noqa: N802 - pyspark's name
        """Whether it runs."""

    def exception(self) -> Exception | None:
        """Why it has ended; None when nothing went wrong."""

    def stop(self) -> None:
        """End it, in the midst of a batch too."""

    @property
    def status(self) -> dict[str, object]:
        """What it is doing."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often a query is started again, and how long that waits."""

    first_seconds: float = 1.0
    longest_seconds: float = 60.0
    forgotten_seconds: float = 300.0  #: a query that ran so long has begun anew
    failures: int = 10  #: one after the other, after which it is given up
    batch_seconds: float = 30.0  #: that a batch may take to end when the query is to stop

    def wait_seconds(self, failures: int) -> float:
        """The wait after so many failures in a row, without what is random in it."""
        return float(min(self.first_seconds * 2.0 ** (failures - 1), self.longest_seconds))


def supervise(
    start: Callable[[], Query],
    *,
    stop: threading.Event,
    patience: Patience,
    look: Callable[[Query], object] = lambda _: None,
    restarted: Callable[[str], object] = lambda _: None,
    told: Callable[[str], WorkbenchError | None] = lambda _: None,
    name: str = "stream",
) -> None:
    """Keep a query running until it has ended by itself, or *stop* is set: its batch may then end before.

    Args:
        start: makes a session and the query anew.
        stop: set from a signal handler or another thread.
        patience: with a query that fails.
        look: called with the query about once a second, and once after its end.
        restarted: called with the kind of the failure before each new start.
        told: the error of ours in the text of one of Spark's, if there is one.
        name: of the stream, for messages.

    Raises:
        SparkError: when the failure is one that would come again, or has come too often.
        WorkbenchError: of ours that waiting does not cure.
    """
    failures = 0
    while not stop.is_set():
        began = time.monotonic()
        try:
            _run(start(), stop, look, patience.batch_seconds)
            return
        except Exception as raised:  # noqa: BLE001 - what is not to be tried again is raised
            error = told(str(raised)) or raised
            if time.monotonic() - began > patience.forgotten_seconds:
                failures = 0
            failures += 1
            message = error.message if isinstance(error, WorkbenchError) else telling_line(error)
            if is_fatal(error):
                if isinstance(error, WorkbenchError):
                    raise error from None
                raise SparkError(f"{name} has stopped: {message}", remedy=REMEDY_FATAL) from None
            if failures >= patience.failures:
                raise SparkError(
                    f"{name} has failed {failures} times one after the other, and is given up: {message}",
                    remedy="See the log of the Spark server; start the stream again when the cause is gone.",
                ) from None
            wait = patience.wait_seconds(failures) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads what failed together
            restarted(type(error).__name__)
            logger.warning("%s: %s; beginning again in %.1f s", name, message, wait)
            stop.wait(wait)


def is_fatal(error: Exception) -> bool:
    """Whether the same query would fail in the same way again."""
    from pyspark.errors import AnalysisException, ParseException

    if isinstance(error, WorkbenchError):
        return not isinstance(error, SparkError | WarehouseUnavailable) and not type(error).__name__.endswith(
            "Unavailable"
        )
    if isinstance(error, AnalysisException | ParseException):
        return True
    return any(each in str(error) for each in FATAL)


def _run(query: Query, stop: threading.Event, look: Callable[[Query], object], batch_seconds: float) -> None:
    is_stopped = False
    while not is_stopped and query.isActive:
        look(query)
        if is_stopped := stop.wait(LOOK_SECONDS):
            _stop(query, batch_seconds)
    error = None if is_stopped else query.exception()
    with suppress(Exception):  # the server may be gone, and what the query has written counts, not its last report
        look(query)
    if error is not None:
        raise error


def _stop(query: Query, batch_seconds: float) -> None:
    """End a query between two batches when that is soon; a batch that is cut off is done again later."""
    deadline = time.monotonic() + batch_seconds
    while query.isActive and query.status.get("isTriggerActive") and query.status.get("isDataAvailable"):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    query.stop()
