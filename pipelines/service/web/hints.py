"""Wakes those who watch a run when the store hints that it changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator


class Hints:
    """Made and used in one event loop; `hear` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watchers: dict[int, set[asyncio.Event]] = {}
        self._people: Counter[str] = Counter()

    def hear(self, hint: str) -> None:
        """Pass on a hint of `Store.hints`; an empty one may stand for any."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._wake, hint)

    @contextlib.contextmanager
    def watch(self, run: int, who: str) -> Iterator[asyncio.Event]:
        """An event that is set when the run may have changed; *who* waits clears it."""
        event = asyncio.Event()
        self._watchers.setdefault(run, set()).add(event)
        self._people[who] += 1
        try:
            yield event
        finally:
            self._watchers[run].discard(event)
            if not self._watchers[run]:
                del self._watchers[run]
            self._people[who] -= 1
            if not self._people[who]:
                del self._people[who]

    @property
    def count(self) -> int:
        """How many watch."""
        return sum(map(len, self._watchers.values()))

    def count_of(self, who: str) -> int:
        """How many of those are of one person."""
        return self._people[who]

    def _wake(self, hint: str) -> None:
        word, _, number = hint.partition(" ")
        if word and word != "run":
            return
        for run, events in self._watchers.items():
            if not word or str(run) == number:
                for event in events:
                    event.set()
