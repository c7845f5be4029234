"""Ctrl-C while gRPC is at work, which a KeyboardInterrupt at a bad moment would break for good.

Python raises it between any two instructions, also between the taking of a lock and the `with` that gives it back
(bugs.python.org, issue 29988). The lock of a channel is then taken for ever: no answer arrives on it any more, and
every later query of the session waits without an end.
"""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

PATIENCE_SECONDS = 5.0


class HeldInterrupt:
    """Holds a first Ctrl-C until the context ends, and raises KeyboardInterrupt then.

    A second one breaks in at once, as it would without this, and so does the first after five seconds. Only the
    main thread is interrupted, so elsewhere this does nothing; nor does it where somebody else handles SIGINT.

    Args:
        cancel: brings the end of the context about; called in a thread.
        broken: called when one has broken in, after which what was interrupted may be in any state.
    """

    def __init__(
        self, cancel: Callable[[], object] = lambda: None, *, broken: Callable[[], object] = lambda: None
    ) -> None:
        self._cancel, self._broken = cancel, broken
        self._before: Any = None
        self._main = threading.main_thread().ident or 0
        self._is_held = False
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if handler is signal.default_int_handler:
                self._before = handler
                signal.signal(signal.SIGINT, self._hold)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is None:
            return
        try:
            self._ended.set()
        finally:
            signal.signal(signal.SIGINT, self._before)
        if self._is_held and kind is KeyboardInterrupt:
            self._broken()
        elif self._is_held:
            # What the end was otherwise, such as "the operation was cancelled", is what was asked for.
            raise KeyboardInterrupt from None

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._ended.is_set():
            self._is_held = True  # and raised when `__exit__` gets there
            return
        if self._is_held:
            raise KeyboardInterrupt
        self._is_held = True
        # Not a `Thread`: to start one takes locks, and what was interrupted may have them.
        _thread.start_new_thread(self._bring_about, ())
        _thread.start_new_thread(self._lose_patience, ())

    def _bring_about(self) -> None:
        # What fails here shows by the end that does not come.
        with suppress(Exception):
            self._cancel()

    def _lose_patience(self) -> None:
        if not self._ended.wait(PATIENCE_SECONDS) and not self._ended.is_set():
            # As from outside: it also ends what the main thread waits for.
            signal.pthread_kill(self._main, signal.SIGINT)
