"""Dates, times with their zone, and partitions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.parameters.kinds import Kind, Source

ZONED = re.compile(r"(?P<moment>[^\[\]]+)(\[(?P<zone>[A-Za-z0-9_+/-]+)\])?")
#: By what, how the name of a partition is written: as `workbench.batch` and its bookmarks have it.
PARTITIONS = {
    "hour": (re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}[+-]\d{4}", re.ASCII), "%Y-%m-%dT%H%z", "2026-01-31T23+0000"),
    "day": (re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII), "%Y-%m-%d", "2026-01-31"),
    "month": (re.compile(r"\d{4}-\d{2}", re.ASCII), "%Y-%m", "2026-01"),
}


@dataclass(frozen=True)
class Date:
    """A day: 2026-01-31."""

    hint: str = "date"

    def read(self, raw: object) -> date:
        if isinstance(raw, datetime):
            raise ValueError(f"{raw.isoformat()} is a time, and no date")
        if isinstance(raw, date):
            return raw
        if isinstance(raw, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", raw, re.ASCII):
            try:
                return date.fromisoformat(raw)
            except ValueError:
                pass
        raise ValueError(f"{raw!r} is no date such as 2026-01-31")

    def as_json(self, value: date) -> str:
        return value.isoformat()

    def parse(self, text: str) -> date:
        return self.read(text.strip())

    def as_text(self, value: date) -> str:
        return value.isoformat()

    def as_source(self, value: date) -> Source:
        return Source(
            f"_date({value.year}, {value.month}, {value.day})", frozenset({"from datetime import date as _date"})
        )

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date"}


@dataclass(frozen=True)
class Moment:
    """A `datetime` with its zone: an offset, or a zone of IANA in brackets behind it, as RFC 9557 has it."""

    hint: str = "datetime"

    def read(self, raw: object) -> datetime:
        value = raw if isinstance(raw, datetime) else self._from_text(raw)
        if value.tzinfo is None:
            raise ValueError(
                f"{value.isoformat()} has no zone; write it as 2026-01-31T05:00:00Z, or with [Europe/Berlin]"
            )
        if isinstance(value.tzinfo, timezone):
            return value.replace(tzinfo=_offset(value), fold=0)
        if not isinstance(value.tzinfo, ZoneInfo) or not value.tzinfo.key:
            raise ValueError(f"{value.isoformat()} has a zone without a name; take one of zoneinfo, or an offset")
        try:
            same = value.astimezone(UTC).astimezone(value.tzinfo)
        except OverflowError:
            raise ValueError(f"{value.isoformat()} is too near to the end of the calendar") from None
        if same.replace(tzinfo=None, fold=0) != value.replace(tzinfo=None, fold=0):
            raise ValueError(f"{value.isoformat()} never is in {value.tzinfo.key}: clocks are put forward over it")
        return same

    def _from_text(self, raw: object) -> datetime:
        match = ZONED.fullmatch(raw) if isinstance(raw, str) else None
        try:
            if match is None:
                raise ValueError  # noqa: TRY301 - one message for all that is no time
            moment = datetime.fromisoformat(match["moment"])
            zone = ZoneInfo(match["zone"]) if match["zone"] else None
        except (ValueError, OSError, KeyError):  # zoneinfo: an unknown zone, or a folder of them
            raise ValueError(f"{raw!r} is no time such as 2026-01-31T05:00:00+01:00[Europe/Berlin]") from None
        if zone is None or moment.tzinfo is None:
            return moment if zone is None else moment.replace(tzinfo=zone)
        try:
            there = moment.astimezone(zone)
        except OverflowError:
            raise ValueError(f"{raw!r} is too near to the end of the calendar") from None
        if there.utcoffset() != moment.utcoffset():
            raise ValueError(f"{raw!r} has another offset than {zone.key} has then: {there.strftime('%z')}")
        return there

    def as_json(self, value: datetime) -> str:
        zone = f"[{value.tzinfo.key}]" if isinstance(value.tzinfo, ZoneInfo) else ""
        return value.isoformat() + zone

    def parse(self, text: str) -> datetime:
        return self.read(text.strip())

    def as_text(self, value: datetime) -> str:
        return self.as_json(value)

    def as_source(self, value: datetime) -> Source:
        imports = {"from datetime import datetime as _datetime"}
        if isinstance(value.tzinfo, ZoneInfo):
            zone = f'_ZoneInfo("{value.tzinfo.key}")'
            imports.add("from zoneinfo import ZoneInfo as _ZoneInfo")
        else:
            zone, more = _offset_source(value.utcoffset() or timedelta())
            imports |= more
        numbers = [value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond]
        while len(numbers) > 5 and not numbers[-1]:
            numbers.pop()
        fold = ", fold=1" if value.fold else ""
        return Source(f"_datetime({', '.join(map(str, numbers))}, tzinfo={zone}{fold})", frozenset(imports))

    def schema(self) -> dict[str, Any]:
        # Not `date-time`, which has no zone in brackets.
        return {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T.+(Z|[+-]\d{2}:?\d{2}(:\d{2})?)?(\[.+\])?$"}


@dataclass(frozen=True)
class Partition:
    """The name of a partition, as bookmarks have it; notebooks are given the name as text."""

    by: str

    @property
    def hint(self) -> str:
        return f"partition[{self.by}]"

    def read(self, raw: object) -> str:
        pattern, form, example = PARTITIONS[self.by]
        if isinstance(raw, str) and pattern.fullmatch(raw):
            try:
                datetime.strptime(raw, form)  # noqa: DTZ007 - a name, and no time
                return raw
            except ValueError:
                pass
        raise ValueError(f"{raw!r} is no {self.by} such as {example}")

    def as_json(self, value: str) -> str:
        return value

    def parse(self, text: str) -> str:
        return self.read(text.strip())

    def as_text(self, value: str) -> str:
        return value

    def as_source(self, value: str) -> Source:
        return Source(f'"{value}"')

    def schema(self) -> dict[str, Any]:
        pattern, _, example = PARTITIONS[self.by]
        return {"type": "string", "pattern": f"^{pattern.pattern}$", "examples": [example]}


def of_partition(kind: Kind, by: str, name: str) -> Any:
    """The value that a parameter of *kind* has for a partition: its name, its first day, or its hour."""
    if isinstance(kind, Date):
        return Date().read(f"{name}-01" if by == "month" else name)
    if isinstance(kind, Moment):
        return Moment().read(datetime.strptime(name, PARTITIONS[by][1]))  # noqa: DTZ007 - its name has the offset
    return kind.read(name)


def _offset(value: datetime) -> timezone:
    return timezone(value.utcoffset() or timedelta())


def _offset_source(offset: timedelta) -> tuple[str, set[str]]:
    if not offset:
        return "_UTC", {"from datetime import UTC as _UTC"}
    imports = {"from datetime import timedelta as _timedelta", "from datetime import timezone as _timezone"}
    parts = {"days": offset.days, "seconds": offset.seconds, "microseconds": offset.microseconds}
    given = ", ".join(f"{name}={number}" for name, number in parts.items() if number)
    return f"_timezone(_timedelta({given}))", imports
