"""A line under a cell that says for how long its query has been running."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from workbench.cells.sql.displays import show_bundle

QUIET_SECONDS = 3.0
TICK_SECONDS = 1.0


class Elapsed(AbstractContextManager["Elapsed"]):
    """Shows nothing of a query that is quick; afterwards `seconds` is what it took.

    Args:
        where: what runs it, such as `the warehouse`.
        watched: whether somebody sees the line change; otherwise nothing is shown.
    """

    def __init__(self, where: str, *, watched: bool) -> None:
        self._where, self._watched = where, watched
        self._started = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._handle: Any = None

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._watched:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        ended = "cancelled" if kind is not None and issubclass(kind, KeyboardInterrupt) else "done"
        if self._handle is not None:
            self._handle.update(_line(f"{self._where}: {ended} after {self.seconds:.1f} s"), raw=True)

    def _tell(self) -> None:
        if self._is_over.wait(QUIET_SECONDS):
            return
        while True:
            line = _line(f"{self._where} is working: {self.seconds:.0f} s …")
            if self._handle is None:
                self._handle = show_bundle(line)
            else:
                self._handle.update(line, raw=True)
            if self._is_over.wait(TICK_SECONDS):
                return


def _line(text: str) -> dict[str, str]:
    return {"text/plain": text}
