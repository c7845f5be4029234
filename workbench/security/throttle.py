"""A limit to what strangers may make us write."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Throttle:
    """Lets so many events through in a minute, and counts the others: strangers must not fill the disk. Not for several threads."""

    per_minute: int = 20
    clock: Callable[[], float] = time.monotonic
    _begun: float = field(default=float("-inf"), init=False)
    _count: int = field(default=0, init=False)
    _left_out: int = field(default=0, init=False)

    def admit(self) -> int | None:
        """How many events were left out since the last that was let through; None when this one is, too."""
        now = self.clock()
        if now - self._begun >= 60:
            self._begun, self._count = now, 0
        self._count += 1
        if self._count > self.per_minute:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return left_out
