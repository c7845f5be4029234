"""Work that goes on in a thread of its own while a process does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Background:
    """A context manager that works in a thread while it is open.

    Args:
        name: of the thread.
        work: called once, in the thread, with an event that is set when it is to end.
        end_seconds: how long the end waits for it; None is until it has ended.
    """

    def __init__(self, name: str, work: Callable[[threading.Event], None], *, end_seconds: float | None) -> None:
        self._stopping, self._end_seconds = threading.Event(), end_seconds
        # A daemon: a wait for the network does not hold up the end of the process.
        self._thread = threading.Thread(target=work, args=(self._stopping,), name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(self._end_seconds)
