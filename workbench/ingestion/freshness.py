"""How fresh a table is: up to when it has all records that its topic had.

Not by times of records: a topic in which nothing happens makes no table old, and clocks of producers may be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from workbench.loading import Claim, Progress, Span


@dataclass
class Freshness:
    """Compares what was committed with the ends that the topic had when somebody looked.

    One thread claims and looks, and another one may commit meanwhile.
    """

    _written: dict[int, int] = field(default_factory=dict, init=False)  #: by partition, the offset after the last
    _awaited: tuple[float, Mapping[int, int]] | None = field(default=None, init=False)  #: an earlier look

    def told(self, known: Iterable[Claim | Progress]) -> None:
        """The warehouse says what the table has of partitions, as it does when they become ours."""
        self._written |= {each.partition: each.next_offset for each in known}

    def committed(self, spans: Iterable[Span]) -> None:
        """The table has these, too."""
        self._written |= {each.partition: each.end for each in spans}

    def look(self, now: float, ends: Mapping[int, int]) -> float | None:
        """The latest known time at which the table has all that the topic had; None when it has come no further.

        Args:
            now: seconds since 1970, when *ends* were asked for.
            ends: the offset after the last record, by partition; of those that are ours.
        """
        if self._has(ends, ends):
            self._awaited = None
            return now
        before = self._awaited
        # A partition that another worker has by now is that worker's to tell of.
        if before is not None and not self._has(before[1], ends):
            return None
        self._awaited = (now, dict(ends))
        # Of a partition that is ours only since, nobody knows what it had then.
        return before[0] if before is not None and ends.keys() <= before[1].keys() else None

    def _has(self, ends: Mapping[int, int], ours: Iterable[int]) -> bool:
        return all(self._written.get(each, 0) >= ends.get(each, 0) for each in ours)
