"""Which schedule is due next: a heap, so that ten thousand of them cost nothing while none is due."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from datetime import datetime

from pipelines.store.runs.schedules import Schedule

Key = tuple[str, str]  #: names of a pipeline and of its schedule


class Agenda:
    """Schedules by their next instant."""

    def __init__(self) -> None:
        self._schedules: dict[Key, Schedule] = {}
        self._heap: list[tuple[datetime, Key]] = []

    def replace(self, schedules: Iterable[Schedule]) -> None:
        """Take these for all that there are; paused ones are never due."""
        self._schedules = {(each.pipeline, each.name): each for each in schedules if not each.paused}
        self._heap = [(each.next_at, key) for key, each in self._schedules.items() if each.next_at is not None]
        heapq.heapify(self._heap)

    def put(self, schedule: Schedule) -> None:
        """Take this one as it stands now."""
        key = schedule.pipeline, schedule.name
        self._schedules[key] = schedule
        if schedule.paused:
            del self._schedules[key]
        elif schedule.next_at is not None:
            heapq.heappush(self._heap, (schedule.next_at, key))

    def get(self, pipeline: str, name: str) -> Schedule | None:
        """A schedule that is not paused."""
        return self._schedules.get((pipeline, name))

    @property
    def next_at(self) -> datetime | None:
        """When the next one is due."""
        self._drop_old()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: datetime) -> list[Schedule]:
        """Those that are due, in the order of their pipelines; each has to be put back as it stands then."""
        due = []
        while (next_at := self.next_at) is not None and next_at <= now:
            due.append(self._schedules[heapq.heappop(self._heap)[1]])
        return sorted(due, key=lambda each: (each.pipeline, each.name))

    def _drop_old(self) -> None:
        while self._heap:
            at, key = self._heap[0]
            if (found := self._schedules.get(key)) is not None and found.next_at == at:
                return
            heapq.heappop(self._heap)
