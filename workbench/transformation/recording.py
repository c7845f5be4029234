"""Records one operation of Spark: its begin, its progress, and how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from workbench.transformation.callers import calling_line
from workbench.transformation.failures import is_cancelled, is_lost, telling_line
from workbench.transformation.progress import Outcome, Recorder

logger = logging.getLogger(__name__)


@contextmanager
def recorded(recorder: Recorder, operation: str, interrupt: Callable[[], object]) -> Iterator[Callable[[Any], Relay]]:
    """Record an operation while it runs; gives what passes on its progress to a handler of PySpark.

    Args:
        recorder: who is told.
        operation: its id.
        interrupt: cancels it.
    """
    recorder.begin(operation, calling_line(), interrupt)
    try:
        yield lambda progress: Relay(recorder, operation, progress)
    except (KeyboardInterrupt, GeneratorExit):
        recorder.end(operation, Outcome.CANCELLED)
        raise
    except Exception as error:
        outcome = _outcome(error)
        recorder.end(operation, outcome, telling_line(error) if outcome is Outcome.FAILED else "")
        raise
    recorder.end(operation, Outcome.DONE)


class Relay:
    """Takes the progress of one operation; what PySpark's own handlers raise does not reach the query.

    Args:
        recorder: who is told of it.
        operation: its id.
        progress: PySpark's own handler, or None.
    """

    def __init__(self, recorder: Recorder, operation: str, progress: Any) -> None:
        self._recorder, self._operation, self._progress = recorder, operation, progress

    def update_ticks(self, stages: Iterable[Any], inflight_tasks: int, operation_id: str | None = None) -> None:
        """Called by PySpark for each report of the server."""
        self._recorder.report(self._operation, stages, inflight_tasks)
        if self._progress is not None:
            with _ignored():
                self._progress.update_ticks(stages, inflight_tasks, operation_id)

    def finish(self) -> None:
        """Called by PySpark when the query is interrupted."""
        if self._progress is not None:
            with _ignored():
                self._progress.finish()


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except Exception:
        logger.debug("a progress handler failed", exc_info=True)


def _outcome(error: Exception) -> Outcome:
    if is_cancelled(error):
        return Outcome.CANCELLED
    return Outcome.LOST if is_lost(error) else Outcome.FAILED
