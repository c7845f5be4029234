"""What a panel shows is read again and again, beside the kernel's own thread."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable


class Refresher:
    """Calls a function in a thread of its own until it is stopped.

    Args:
        call: raises nothing.
        seconds: between the end of one call and the begin of the next.
        end: called once, when it has been stopped and no call is under way.
    """

    def __init__(self, call: Callable[[], object], seconds: float, end: Callable[[], object] = lambda: None) -> None:
        self._call, self._seconds, self._end = call, seconds, end
        self._stopped, self._woken = threading.Event(), threading.Event()
        # What a thread sends belongs to the cell that made it, whatever runs by then.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="workbench-panel", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether its thread is there."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin, once."""
        self._thread.start()

    def wake(self) -> None:
        """Call now, and not when its time has come."""
        self._woken.set()

    def stop(self) -> None:
        """Call no more; a call that has begun ends by itself."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._woken.set()
        if not self._thread.is_alive():
            self._end()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._woken.clear()
            self._call()
            if not self._stopped.is_set():
                self._woken.wait(self._seconds)
        self._end()
