"""A limit to what strangers may make us write."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
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

    def leave_out(self, count: int) -> None:
        """Add events that were let through and are lost all the same, with those that were left out before them."""
        self._left_out += count


@dataclass
class Repeats:
    """Knows what was there within the last minute; of the last so many things. Not for several threads."""

    seconds: float = 60.0
    most: int = 1_000
    clock: Callable[[], float] = time.monotonic
    _seen: dict[Hashable, float] = field(default_factory=dict, init=False)

    def is_new(self, what: Hashable) -> bool:
        """Whether it was not there within the last minute; if so, the minute begins."""
        now = self.clock()
        if now - self._seen.get(what, float("-inf")) < self.seconds:
            return False
        self._seen.pop(what, None)  # what is seen anew is the last to be forgotten
        self._seen[what] = now
        if len(self._seen) > self.most:
            del self._seen[next(iter(self._seen))]
        return True
