"""A zone's time, cut into periods of one offset: within one, the clock on the wall simply goes on.

zoneinfo tells no changes, so they are looked for: an offset at a time, then by halves to the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

PROBE = timedelta(hours=6)  #: no zone has changed twice within it
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
LAST_YEAR = 2400  #: no period begins in it or later


@dataclass(frozen=True)
class Period:
    """A time in which a zone has one offset; `start` belongs to it, `end` does not."""

    start: datetime
    end: datetime
    offset: timedelta
    before: timedelta  #: the offset until `start`
    after: timedelta  #: the offset from `end` on

    def wall(self, instant: datetime) -> datetime:
        """What the clock on the wall shows, or would show if the period went on."""
        return (instant + self.offset).replace(tzinfo=None)

    def instant(self, wall: datetime) -> datetime:
        """When the clock on the wall shows this, in UTC."""
        return wall.replace(tzinfo=UTC) - self.offset


def periods(zone: ZoneInfo, begin: datetime) -> Iterator[Period]:
    """The periods from *begin* on, the first one cut there. Long ones come in pieces of about a year.

    A piece ends only where no change is near: who treats the hours around a change specially sees them whole.
    """
    start, offset = begin, offset_at(zone, begin)
    before = offset
    for year in range(begin.year, LAST_YEAR):
        for change, following in _ends(zone, year):
            if change > start:
                yield Period(start, change, offset, before, following)
                start, before, offset = change, offset, following


def offset_at(zone: ZoneInfo, instant: datetime) -> timedelta:
    """The offset of *zone* at a time."""
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None, "times in a zone have an offset"
    return offset


def _ends(zone: ZoneInfo, year: int) -> Iterator[tuple[datetime, timedelta]]:
    """Where the periods of a year end, each with the offset from there on."""
    yield from changes(zone, year)
    edge = datetime(year + 1, 1, 1, tzinfo=UTC)
    if all(abs(change - edge) > DAY for change, _ in (*changes(zone, year), *changes(zone, year + 1))):
        yield edge, offset_at(zone, edge)


@lru_cache(maxsize=4096)
def changes(zone: ZoneInfo, year: int) -> tuple[tuple[datetime, timedelta], ...]:
    """The instants of a year, in UTC, at which the offset of *zone* becomes another, with that offset."""
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    probes = [start - SECOND + PROBE * number for number in range((end - start) // PROBE + 1)]
    offsets = [offset_at(zone, each) for each in probes]
    pairs = zip(pairwise(probes), pairwise(offsets), strict=True)
    return tuple(_change_between(zone, *ends) for ends, (one, other) in pairs if one != other)


def _change_between(zone: ZoneInfo, low: datetime, high: datetime) -> tuple[datetime, timedelta]:
    offset = offset_at(zone, low)
    while high - low > SECOND:
        middle = low + (high - low) // (2 * SECOND) * SECOND
        low, high = (middle, high) if offset_at(zone, middle) == offset else (low, middle)
    return high, offset_at(zone, high)
