"""Partitions of a batch job: days, hours, months or values, and which rows of a table are theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal

from workbench.errors import SettingsError

By = Literal["day", "hour", "month", "value"]
MOST_PARTITIONS = 100_000


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One part of a job's table. `str()` is its name, as bookmarks have it."""

    name: str  #: `2026-01-31`, `2026-01-31T23+0000`, `2026-01`, or the value
    start: datetime | None = None  #: of the rows that belong to it, with a zone; None for values
    end: datetime | None = None  #: of the first rows that no longer do

    @property
    def date(self) -> date:
        """The day, or the first one of the month, in the job's time zone."""
        assert self.start is not None, f"the partition {self.name} is a value, and no day"
        return self.start.date()

    def __str__(self) -> str:
        return self.name

    def rows(self, column: str, kind: str) -> dict[str, object]:
        """Which rows of a table are the partition's, as the option `replace` has it.

        Args:
            column: whose values say it.
            kind: its type in Spark.

        Raises:
            SettingsError: when a column of this type cannot say it.
        """
        if self.start is None or self.end is None or kind == "string":
            return {column: self.name}
        if kind == "date" and self.start.time() == self.end.time() == time():
            return {column: {"from": self.start.date().isoformat(), "to": self.end.date().isoformat()}}
        if kind == "timestamp":
            return {column: {"from": self.start.isoformat(), "to": self.end.isoformat()}}
        if kind == "timestamp_ntz":
            bounds = [moment.replace(tzinfo=None).isoformat() for moment in (self.start, self.end)]
            return {column: {"from": bounds[0], "to": bounds[1]}}
        raise SettingsError(
            [
                f"{column} is {kind}, which cannot hold the partition {self.name}. Make it a date, a timestamp or a string."
            ]
        )


def make_partitions(
    by: By,
    *,
    since: str | date | datetime = "",
    until: str | date | datetime = "",
    values: Sequence[object] = (),
    zone: tzinfo = UTC,
) -> tuple[Partition, ...]:
    """The partitions from *since* to *until*, both among them, or those of *values*, in their order.

    Args:
        by: what a partition is.
        since: of the first partition, a date or a time such as `2026-01-31` or `2026-01-31T05`.
        until: of the last one; empty is the same as *since*.
        values: for `value`.
        zone: in which days begin, and in which times without a zone are meant.

    Raises:
        SettingsError: when the arguments do not go together.

    Example:
        >>> [str(each) for each in make_partitions("month", since="2026-01", until="2026-03")]
        ['2026-01', '2026-02', '2026-03']
    """
    if by == "value":
        if not values or since or until:
            raise SettingsError(["Partitions by value need `values`, and neither `since` nor `until`."])
        return tuple(Partition(name=str(value)) for value in dict.fromkeys(values))
    if values or not since:
        raise SettingsError([f"Partitions by {by} need `since`, and no `values`."])
    first = _begin(by, _moment(since, zone))
    last = _begin(by, _moment(until or since, zone))
    if last < first:
        raise SettingsError([f"`until` {until} comes before `since` {since}. Swap them."])
    found = []
    for start, end in _spans(first, last, _NEXT[by]):
        found.append(Partition(name=_name(by, start), start=start, end=end))
        if len(found) > MOST_PARTITIONS:
            raise SettingsError(
                [f"From {since} to {until} there are more than {MOST_PARTITIONS} partitions. Take fewer."]
            )
    return tuple(found)


def _spans(
    first: datetime, last: datetime, following: Callable[[datetime], datetime]
) -> Iterator[tuple[datetime, datetime]]:
    start = first
    while start <= last:
        end = following(start)
        yield start, end
        start = end


def _moment(given: str | date | datetime, zone: tzinfo) -> datetime:
    if isinstance(given, str):
        try:
            # A month is its first day.
            given = datetime.fromisoformat(f"{given}-01" if len(given) == len("2026-01") else given)
        except ValueError:
            raise SettingsError([f"{given!r} is no date. Write 2026-01-31, 2026-01 or 2026-01-31T05."]) from None
    if not isinstance(given, datetime):
        given = datetime.combine(given, time())
    return given.astimezone(zone) if given.tzinfo else given.replace(tzinfo=zone)


def _begin(by: By, moment: datetime) -> datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    if by == "hour":
        return hour
    return hour.replace(hour=0, fold=0) if by == "day" else hour.replace(hour=0, day=1, fold=0)


def _next_hour(start: datetime) -> datetime:
    # In UTC, where no hour comes twice.
    return (start.astimezone(UTC) + timedelta(hours=1)).astimezone(start.tzinfo)


def _next_month(start: datetime) -> datetime:
    return (start.replace(day=28) + timedelta(days=4)).replace(day=1)


_NEXT: dict[str, Callable[[datetime], datetime]] = {
    "hour": _next_hour,
    # Of wall clocks: a day has 23 or 25 hours twice a year.
    "day": lambda start: start + timedelta(days=1),
    "month": _next_month,
}


def _name(by: By, start: datetime) -> str:
    return start.strftime({"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H%z", "month": "%Y-%m"}[by])
