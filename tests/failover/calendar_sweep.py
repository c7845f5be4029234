"""Compares the calendar with Debian's cron over years, expressions and all zones: nothing missed, nothing doubled.

    python -m tests.failover.calendar_sweep --expressions 200 --years 10

Zones whose walls show the same over all these years are compared once. Jobs that run more often than
once an hour are compared in the days around each change, and in the first week of each year.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import numpy as np

from pipelines.calendar import Schedule, instants
from tests.services.cron_oracle import EPOCH, Wall, expressions, fired_minutes, read_wall

MINUTE = timedelta(minutes=1)
AROUND_MINUTES = 3 * 24 * 60
WEEK_MINUTES = 7 * 24 * 60
OFTEN_PER_DAY = 24


@dataclass(frozen=True)
class Compared:
    """What was compared, and what differed."""

    instants: int
    missed: int
    added: int


def main() -> int:
    """Run the sweep; exit 1 when anything differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--expressions", type=int, default=200)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--first-year", type=int, default=2020)
    parser.add_argument("--zones", type=int, default=0, help="only so many different ones, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begin, end = (datetime(given.first_year + each, 1, 1, tzinfo=UTC) for each in (0, given.years))
    started, wrong, total = time.monotonic(), 0, 0
    zones = different_zones(begin, end)
    chosen = (
        zones
        if not given.zones
        else dict(list(zones.items())[given.seed % len(zones) :: -(-len(zones) // given.zones)])
    )
    for zone, others in chosen.items():
        done = compare(zone, list(expressions(given.seed, given.expressions)), begin, end)
        wrong, total = wrong + done.missed + done.added, total + done.instants
        print(
            f"{zone} and {others} like it: {done.instants:,} instants, {done.missed} missed, {done.added} doubled or added",
            flush=True,
        )
    seconds = time.monotonic() - started
    print(f"{len(chosen)} of {len(zones)} different zones, {total:,} instants, {wrong} wrong, {seconds:.0f} s")
    return 1 if wrong else 0


def different_zones(begin: datetime, end: datetime) -> dict[str, int]:
    """One zone for each that shows the same at every hour, with how many others do."""
    hours = [begin + timedelta(hours=each) for each in range(0, int((end - begin) / timedelta(hours=1)), 6)]
    seen: dict[int, str] = {}
    found: dict[str, int] = {}
    for name in sorted(available_timezones() - {"localtime"}):
        zone = ZoneInfo(name)
        first = seen.setdefault(hash(tuple(each.astimezone(zone).utcoffset() for each in hours)), name)
        found[first] = found.get(first, -1) + 1
    return found


def compare(zone: str, crons: list[str], begin: datetime, end: datetime) -> Compared:
    """All expressions in one zone."""
    wall = read_wall(zone, begin - timedelta(days=1), end)
    days = (end - begin).days
    total = missed = added = 0
    for cron in crons:
        expected = fired_minutes(cron, wall)
        often = len(expected) > OFTEN_PER_DAY * days
        for low, high in windows(wall, begin, end) if often else [(minute_of(begin), minute_of(end))]:
            wanted = set(expected[np.searchsorted(expected, low) : np.searchsorted(expected, high)].tolist())
            schedule = Schedule(cron=cron, zone=zone)
            found = [
                minute_of(each) for each in instants(schedule, EPOCH + (low - 1) * MINUTE, EPOCH + (high - 1) * MINUTE)
            ]
            total += len(found)
            missed += len(wanted - set(found))
            added += len(found) - len(wanted & set(found))
            if set(found) != wanted:
                print(f"  {cron} in {zone}: {[EPOCH + each * MINUTE for each in sorted(wanted ^ set(found))[:3]]}")
    return Compared(total, missed, added)


def windows(wall: Wall, begin: datetime, end: datetime) -> Iterator[tuple[int, int]]:
    """The minutes around each change and in the first week of each year, cut to what is looked at."""
    changes = (int(index) + wall.start for index in np.flatnonzero(np.diff(wall.minutes) != 1))
    spans = [(each - AROUND_MINUTES, each + AROUND_MINUTES) for each in changes]
    years = (minute_of(datetime(year, 1, 1, tzinfo=UTC)) for year in range(begin.year, end.year))
    spans += [(each, each + WEEK_MINUTES) for each in years]
    for low, high in spans:
        yield max(minute_of(begin), low), min(minute_of(end), high)


def minute_of(instant: datetime) -> int:
    """Whole minutes since 1970."""
    return (instant - EPOCH) // MINUTE


if __name__ == "__main__":
    sys.exit(main())
