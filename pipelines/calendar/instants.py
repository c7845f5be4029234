"""The logical instants of a schedule, in UTC.

Jobs at fixed times (neither minute nor hour begins with a star) whose time clocks are put forward
over run once, at once after the change; those whose time comes twice run the first time. All others
follow the clock on the wall: what is skipped is not made up for, and what comes twice runs twice.
Changes of three hours and more are corrections: the new time simply counts. (cron(8) of Debian,
"Daylight Saving Time and other time changes".)

cronsim says which times on the wall fit; when these are is worked out here, period by period of one
offset. cronsim's own arithmetic with zones gives times that do not exist where a change begins a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from cronsim import CronSim

from pipelines.calendar.periods import SECOND, Period, periods
from pipelines.calendar.schedule import Schedule, zone_of

CORRECTION = timedelta(hours=3)
NONE = timedelta()


def instants(
    schedule: Schedule, after: datetime, until: datetime | None = None, limit: int | None = None
) -> Iterator[datetime]:
    """The instants of *schedule* after *after* in their order, in UTC; *until* belongs to them.

    Args:
        schedule: what is asked for.
        after: a time with its zone.
        until: a time with its zone; None is without end.
        limit: how many at most; None is all.
    """
    return islice(_instants(schedule, after, until), limit)


def next_instants(schedule: Schedule, now: datetime, count: int = 5) -> tuple[tuple[datetime, datetime], ...]:
    """The next *count* instants, each in the schedule's zone and in UTC."""
    zone = zone_of(schedule.zone)
    return tuple((each.astimezone(zone), each) for each in instants(schedule, now, limit=count))


def first_touched(schedule: Schedule, begin: datetime, end: datetime) -> datetime | None:
    """The first time on the wall of a job at fixed times that a change of the clocks leaves out or brings twice.

    Args:
        schedule: what is asked for.
        begin: changes after it are looked at; a time with its zone.
        end: those before it; a time with its zone.

    Returns:
        None when there is none, and for jobs that follow the clock on the wall whatever it shows.
    """
    for period in periods(zone_of(schedule.zone), begin.astimezone(UTC)):
        if period.start >= end:
            return None
        change = _special(schedule, period.offset - period.before)
        shown = period.wall(period.start)
        first, last = sorted((shown, shown - change))
        found = next(_walls(schedule.cron, first), last)
        if found < last:
            return found
    return None


def _instants(schedule: Schedule, after: datetime, until: datetime | None) -> Iterator[datetime]:
    zone, last = zone_of(schedule.zone), after
    # What a change does to a schedule is over when as much time has passed as the clocks were changed by.
    for period in periods(zone, (after - CORRECTION).astimezone(UTC)):
        if until is not None and period.start > until:
            return
        for instant in _of_period(schedule, period, after):
            if until is not None and instant > until:
                return
            if instant > last:
                yield instant
                last = instant


def _of_period(schedule: Schedule, period: Period, after: datetime) -> Iterator[datetime]:
    """The instants of one period, in their order; those up to *after* may be left out."""
    begin, end = period.wall(period.start), period.wall(period.end)
    forward = _special(schedule, period.offset - period.before)
    if forward > NONE and next(_walls(schedule.cron, begin - forward), begin) < begin:
        yield period.start
    first = max(begin, period.wall(after))
    if forward < NONE and schedule.ambiguous != "twice":
        first = max(first, begin - forward)  # until then the wall shows what it has shown before
    backward = -_special(schedule, period.after - period.offset)
    if backward > NONE and schedule.ambiguous == "skip":
        end -= backward
    for wall in _walls(schedule.cron, first):
        if wall >= end:
            return
        yield period.instant(wall)


def _special(schedule: Schedule, change: timedelta) -> timedelta:
    """By how much clocks are put forward (or back, below zero), when that matters to the schedule."""
    return change if schedule.has_fixed_times and abs(change) < CORRECTION else NONE


def _walls(cron: str, first: datetime) -> Iterator[datetime]:
    """The times on the wall that fit, from *first* on, which may be one of them."""
    return CronSim(cron, first - SECOND)
