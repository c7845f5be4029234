"""What Debian's cron would do, minute by minute: no cronsim, no look for changes, nothing of `pipelines`.

The rule is that of cron(8) and of the loop in Debian's cron.c: a virtual time follows the clock on
the wall. When the wall is less than three hours ahead, jobs at fixed times run for every minute that
was jumped over, once. When it is less than three hours behind, they wait until it has caught up.
A larger difference is a correction. Jobs with a star in minute or hour just follow the wall.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np

CORRECTION_MINUTES = 180
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


@dataclass(frozen=True)
class Wall:
    """A stretch of real minutes in a zone."""

    start: int  #: the first real minute, since 1970 in UTC
    minutes: np.ndarray  #: for each real minute, what the wall shows, in minutes since 1970
    is_live: np.ndarray  #: whether jobs at fixed times run for it: not while the wall repeats itself
    jumps: tuple[tuple[int, int], ...]  #: index of a real minute, and from which minute of the wall it makes up

    @cached_property
    def days(self) -> tuple[np.ndarray, np.ndarray]:
        """For each real minute the day of the wall, since 1970, and the minute of that day."""
        return _days(self.minutes)


def read_wall(zone: str, begin: datetime, end: datetime) -> Wall:
    """Ask zoneinfo what the wall shows at each minute, and let the virtual time follow."""
    there = ZoneInfo(zone)
    start = int((begin - EPOCH) / timedelta(minutes=1))
    count = int((end - begin) / timedelta(minutes=1))
    offsets = np.empty(count, dtype=np.int64)
    # An offset that is the same a quarter of an hour apart has not changed in between.
    for low in range(0, count, 15):
        high = min(low + 15, count)
        first, last = (_offset(there, begin + timedelta(minutes=each)) for each in (low, high - 1))
        offsets[low:high] = first
        if first != last:
            offsets[low:high] = [_offset(there, begin + timedelta(minutes=each)) for each in range(low, high)]
    minutes = np.arange(start, start + count) + offsets
    is_live, jumps = _follow(minutes)
    return Wall(start, minutes, is_live, jumps)


def _follow(minutes: np.ndarray) -> tuple[np.ndarray, tuple[tuple[int, int], ...]]:
    is_live, jumps = np.ones(len(minutes), dtype=bool), []
    for index in np.flatnonzero(np.diff(minutes) != 1) + 1:
        virtual, wall = int(minutes[index - 1]), int(minutes[index])
        if 0 < wall - virtual - 1 < CORRECTION_MINUTES:
            jumps.append((int(index), virtual + 1))
        elif 0 < virtual + 1 - wall < CORRECTION_MINUTES:
            is_live[index : index + (virtual + 1 - wall)] = False
    return is_live, tuple(jumps)


def fired(expression: str, wall: Wall) -> list[datetime]:
    """When a job runs, in UTC."""
    return [EPOCH + timedelta(minutes=int(each)) for each in fired_minutes(expression, wall)]


def fired_minutes(expression: str, wall: Wall) -> np.ndarray:
    """When a job runs, in minutes since 1970 in UTC."""
    fits = _fits(expression, *wall.days)
    if not any(field.startswith("*") for field in expression.split()[:2]):
        fits &= wall.is_live
        for index, first in wall.jumps:
            fits[index] |= bool(_fits(expression, *_days(np.arange(first, wall.minutes[index]))).any())
    return np.flatnonzero(fits) + wall.start


def _days(minutes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    days, rest = np.divmod(minutes, 1440)
    return days.astype(np.int32), rest.astype(np.int32)


def _fits(expression: str, days: np.ndarray, rest: np.ndarray) -> np.ndarray:
    texts = expression.split()
    minute, hour, day, month, weekday = (_parse(*each) for each in zip(texts, FIELDS, strict=True))
    first = int(days.min())
    is_and = texts[2].startswith("*") or texts[4].startswith("*")
    table = []
    for number in range(first, int(days.max()) + 1):
        this = date(1970, 1, 1) + timedelta(days=number)
        matches = (this.day in day, (this.weekday() + 1) % 7 in {each % 7 for each in weekday})
        table.append(this.month in month and (all(matches) if is_and else any(matches)))
    of_day = [h in hour and m in minute for h in range(24) for m in range(60)]
    return np.array(table)[days - first] & np.array(of_day)[rest]


def _parse(text: str, bounds: tuple[int, int]) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        ends = bounds if low == "*" else (int(low), int(high or (bounds[1] if step else low)))
        found.update(range(ends[0], ends[1] + 1, int(step or 1)))
    return found


def expressions(seed: int, count: int) -> Iterator[str]:
    """Expressions as people write them, most of them about the hours in which clocks are changed."""
    draw = random.Random(seed)
    for _ in range(count):
        minute = draw.choice(["0", "30", "*/15", "*/7", "5,35", "10-20/5", "59", str(draw.randrange(60)), "0,30", "0"])
        hour = draw.choice(["0", "1", "2", "3", "1-3", "0-4/2", "*/2", "*", "23", "0,2", str(draw.randrange(24)), "2"])
        day = draw.choice(["*", "*", "*", "1", "25-31", "*/2", "28-31", "15"])
        month = draw.choice(["*", "*", "*", "3,10", "3-4,10-11", "1"])
        weekday = draw.choice(["*", "*", "*", "0", "1-5", "7", "6"])
        yield f"{minute} {hour} {day} {month} {weekday}"


def _offset(zone: ZoneInfo, instant: datetime) -> int:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None
    assert offset.seconds % 60 == 0, "offsets of today are whole minutes"
    return int(offset / timedelta(minutes=1))
