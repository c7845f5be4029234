"""Keeps the operations of this process, those that run and the last that have ended."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from workbench.transformation.progress.operations import Operation, Outcome, ReportedStage, ended, reported

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)
LONGEST_HISTORY = 500  # operations

Listener = Callable[[Operation, Callable[[], object]], object]


class Recorder:
    """Operations by id, from any thread. Nothing that goes wrong in here or in a listener reaches a query.

    A listener is called in the thread of the operation when it begins, with what cancels it, and
    when it has ended. What happens between is asked for with `find`.
    """

    executors: int | None = None  #: that the session asked for, where it asked for a number

    def __init__(self, longest: int = LONGEST_HISTORY) -> None:
        self._running: dict[str, tuple[Operation, float]] = {}
        self._cancels: dict[str, Callable[[], object]] = {}
        self._ended: deque[Operation] = deque(maxlen=longest)
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call *listener* from now on."""
        if listener not in self._listeners:
            self._listeners.append(listener)

    def forget(self, listener: Listener) -> None:
        """Do not call *listener* any more."""
        self._listeners = [each for each in self._listeners if each != listener]

    def begin(self, id: str, what: str, cancel: Callable[[], object]) -> None:  # noqa: A002
        """An operation begins."""
        operation = Operation(id=id, what=what, started=datetime.now(UTC))
        with self._lock:
            self._running[id] = operation, time.monotonic()
            self._cancels[id] = cancel
        self._tell(operation, cancel)

    def report(self, id: str, stages: Iterable[ReportedStage], tasks_running: int) -> None:  # noqa: A002
        """Spark says how far an operation is; one that is not known is ignored."""
        with self._lock:
            if found := self._running.get(id):
                self._running[id] = reported(found[0], stages, tasks_running), found[1]

    def add_rows(self, id: str, rows: int) -> None:  # noqa: A002
        """Rows came back."""
        with self._lock:
            if found := self._running.get(id):
                self._running[id] = replace(found[0], rows=found[0].rows + rows), found[1]

    def end(self, id: str, outcome: Outcome, error: str = "") -> None:  # noqa: A002
        """An operation has ended."""
        with self._lock:
            found = self._running.pop(id, None)
            self._cancels.pop(id, None)
            if found is None:
                return
            operation = ended(found[0], outcome, time.monotonic() - found[1], error)
            self._ended.append(operation)
        self._tell(operation, lambda: None)

    def cancel(self, id: str) -> bool:  # noqa: A002
        """Cancel an operation; whether it was running."""
        with self._lock:
            cancel = self._cancels.get(id)
        if cancel is not None:
            cancel()
        return cancel is not None

    def find(self, id: str) -> Operation | None:  # noqa: A002
        """An operation as it is now; None when it is unknown or forgotten."""
        with self._lock:
            if found := self._running.get(id):
                return _now(found)
            return next((each for each in reversed(self._ended) if each.id == id), None)

    def operations(self) -> list[Operation]:
        """Those that have ended, the oldest first, then those that run."""
        with self._lock:
            return [*self._ended, *map(_now, self._running.values())]

    def history(self) -> pd.DataFrame:
        """The last 500 operations of this process as a table, the newest last.

        Example:
            >>> from workbench.transformation.progress import RECORDER
            >>> RECORDER.history().sort_values("seconds").tail(3)
        """
        import pandas as pd

        columns = ["started", "seconds", "outcome", "stages", "tasks", "bytes_read", "rows", "what", "error"]
        rows = [
            (
                *(each.started, round(each.seconds, 3), str(each.outcome), len(each.stages), each.tasks),
                *(each.bytes_read, each.rows, each.what, each.error),
            )
            for each in self.operations()
        ]
        return pd.DataFrame(rows, columns=columns)

    def _tell(self, operation: Operation, cancel: Callable[[], object]) -> None:
        for listener in self._listeners:
            try:
                listener(operation, cancel)
            except Exception:  # whatever shows progress, the query goes on
                logger.debug("showing progress failed", exc_info=True)


def _now(found: tuple[Operation, float]) -> Operation:
    operation, began = found
    return replace(operation, seconds=time.monotonic() - began)


RECORDER = Recorder()  #: of this process
