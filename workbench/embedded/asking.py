"""Asks a server whether it can do its work, seldom while it can and at each look while it cannot."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

ASK_SECONDS = 15.0


@dataclass
class Asking:
    """What keeps a server from its work, at the last time that it was asked. For one thread.

    Args:
        clock: seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _asked: float = field(default=float("-inf"), init=False)
    _answer: str = field(default="", init=False)

    def ask(self, question: Callable[[], str]) -> str:
        """The answer of now, or a good one of the last 15 seconds; empty when nothing keeps it."""
        now = self.clock()
        if self._answer or now - self._asked >= ASK_SECONDS:
            self._asked, self._answer = now, question()
        return self._answer
