"""What is expected of a table: values that say it, and what is wrong with them. They know no engine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

from workbench.errors import SettingsError
from workbench.transformation.quality.patterns import portable

LONGEST_NAME = 100
LARGEST_INTEGER = 2**63 - 1
NUMBERS = (int, float, Decimal)


class Severity(StrEnum):
    """What a broken expectation leads to."""

    WARN = "warn"  #: it is recorded
    QUARANTINE = "quarantine"  #: rows that break it are set apart
    STOP = "stop"  #: the run ends with an error


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Base of all kinds. Missing means null or not a number; all kinds but `not_null` pass over what is missing."""

    kind: ClassVar[str]
    counts_rows: ClassVar[bool] = True  #: whether single rows can break it, so that a share of them may be tolerated
    is_row_wise: ClassVar[bool] = False  #: whether one row alone shows that it breaks it, so that it can be set apart

    name: str = ""  #: unique within a table; the kind and the columns when it is not given
    severity: Severity = Severity.WARN
    tolerance: float = 0.0  #: share of the rows that may break it

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"{self.kind} {', '.join(map(str, self.about))}".strip())

    @property
    def about(self) -> tuple[str, ...]:
        """The columns that it speaks of."""
        given: tuple[str, ...] | None = getattr(self, "columns", None)
        return given if given is not None else tuple(filter(None, (getattr(self, "column", None),)))

    def problems(self) -> Iterator[str]:
        """What is wrong with it: sentences that begin with the field."""
        if not isinstance(self.name, str) or len(self.name) > LONGEST_NAME:
            yield f"name is {self.name!r}, which is no text of at most {LONGEST_NAME} characters."
        if self.severity not in tuple(Severity):
            yield f"severity is {self.severity!r}. Known are {', '.join(Severity)}."
        elif self.severity == Severity.QUARANTINE and not self.is_row_wise:
            yield f"severity is quarantine, which {self.kind} cannot have: one row alone does not show that it breaks it."
        if not _is_number(self.tolerance) or not 0 <= self.tolerance <= 1:
            yield f"tolerance is {self.tolerance!r}, which is no share between 0 and 1."
        elif self.tolerance and not self.counts_rows:
            yield f"tolerance is {self.tolerance!r}, which {self.kind} cannot have: it does not count rows that fail."
        for field in ("column", "columns"):
            value = getattr(self, field, "-")
            if not all(isinstance(each, str) and each for each in (value if isinstance(value, tuple) else (value,))):
                yield f"{field} is {value!r}, which is no name."


@dataclass(frozen=True, kw_only=True)
class NotNull(Expectation):
    """Every row has a value."""

    kind = "not_null"
    is_row_wise = True
    column: str


@dataclass(frozen=True, kw_only=True)
class Unique(Expectation):
    """No two rows have the same values; counted are the rows that are too many. Costs a query of its own."""

    kind = "unique"
    columns: tuple[str, ...]

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from super().problems()
        if not self.columns:
            yield "columns has no name."


@dataclass(frozen=True, kw_only=True)
class Range(Expectation):
    """Every number, date or time lies between two bounds, which belong to the range."""

    kind = "range"
    is_row_wise = True
    column: str
    min: int | float | Decimal | date | None = None
    max: int | float | Decimal | date | None = None

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from super().problems()
        bounds = {name: value for name, value in (("min", self.min), ("max", self.max)) if value is not None}
        wrong = [f"{name} {fault}" for name, value in bounds.items() if (fault := _bound_fault(value))]
        yield from wrong
        if not bounds:
            yield "min and max are both missing."
        if len(bounds) == 2 and not wrong:
            if family(self.min) != family(self.max):
                yield f"max is {self.max!r}, which cannot be compared with min."
            elif self.min > self.max:  # type: ignore[operator]  # they are of one family
                yield f"max is {self.max!r}, which is below min."


@dataclass(frozen=True, kw_only=True)
class Values(Expectation):
    """Every value is one of a list."""

    kind = "values"
    is_row_wise = True
    column: str
    values: tuple[Any, ...]  #: all numbers, all texts, all booleans, all dates or all times

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from super().problems()
        if not self.values:
            yield "values is empty."
        for value in self.values:
            if not isinstance(value, str | bool) and (fault := _bound_fault(value)):
                yield f"values has one that {fault}"
        if len({family(value) for value in self.values}) > 1:
            yield "values has several types; quote texts."


@dataclass(frozen=True, kw_only=True)
class Matches(Expectation):
    """Every text matches a regular expression as a whole; see `patterns.portable` for what it may have."""

    kind = "matches"
    is_row_wise = True
    column: str
    pattern: str

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from super().problems()
        if fault := _pattern_fault(self.pattern):
            yield f"pattern is {self.pattern!r}{fault}."


@dataclass(frozen=True, kw_only=True)
class Freshness(Expectation):
    """The newest time is not older than an age; a table without any is not fresh."""

    kind = "freshness"
    counts_rows = False
    column: str
    max_age_seconds: float

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from super().problems()
        if not _is_number(self.max_age_seconds) or self.max_age_seconds <= 0:
            yield f"max_age_seconds is {self.max_age_seconds!r}, which is no number above 0."


@dataclass(frozen=True, kw_only=True)
class RowCount(Expectation):
    """The number of rows lies between bounds, or between multiples of what it was on an earlier day."""

    kind = "row_count"
    counts_rows = False
    min: int | None = None
    max: int | None = None
    min_ratio: float | None = None  #: of the last count that was recorded before today, in UTC
    max_ratio: float | None = None

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from super().problems()
        given = {name: getattr(self, name) for name in ("min", "max", "min_ratio", "max_ratio")}
        wrong = False
        for name, value in given.items():
            whole = not name.endswith("ratio")
            if value is not None and (not _is_number(value) or value < 0 or (whole and not isinstance(value, int))):
                wrong = True
                yield f"{name} is {value!r}, which is no {'whole ' if whole else ''}number from 0 on."
        if all(value is None for value in given.values()):
            yield "min, max, min_ratio and max_ratio are all missing."
        for low, high in (("min", "max"), ("min_ratio", "max_ratio")):
            if not wrong and None not in (given[low], given[high]) and given[low] > given[high]:
                yield f"{high} is {given[high]!r}, which is below {low}."


@dataclass(frozen=True, kw_only=True)
class ForeignKey(Expectation):
    """The values of every row are in another table. Costs a query of its own."""

    kind = "foreign_key"
    columns: tuple[str, ...]
    table: str  #: schema.table, or the name of a frame
    references: tuple[str, ...] = ()  #: columns of that table; the same names when it is not given

    @property
    def referenced(self) -> tuple[str, ...]:
        """The columns of the other table."""
        return self.references or self.columns

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from super().problems()
        if not self.columns:
            yield "columns has no name."
        if not (isinstance(self.table, str) and self.table):
            yield f"table is {self.table!r}, which is no name."
        if not all(isinstance(each, str) and each for each in self.references):
            yield f"references is {list(self.references)!r}, which is no list of names."
        elif len(self.referenced) != len(self.columns):
            yield "references has another number of columns than columns."


KINDS: dict[str, type[Expectation]] = {
    each.kind: each for each in (NotNull, Unique, Range, Values, Matches, Freshness, RowCount, ForeignKey)
}


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What is expected of one table.

    Raises:
        SettingsError: naming everything that is wrong.
    """

    table: str  #: schema.table
    expectations: tuple[Expectation, ...]
    key: tuple[str, ...] = ()  #: columns that tell people which row it is
    sensitive: tuple[str, ...] = ()  #: columns whose values are never shown

    def __post_init__(self) -> None:
        found = [f"{self.table}: {each.name!r}: {problem}" for each in self.expectations for problem in each.problems()]
        names = [each.name for each in self.expectations]
        found += [f"{self.table}: {name!r} is the name of several expectations." for name in sorted(repeated(names))]
        if found:
            raise SettingsError(found)


def repeated(names: list[str]) -> set[str]:
    """Those that are there more than once."""
    return {name for name in names if isinstance(name, str) and names.count(name) > 1}


def family(value: Any) -> str:
    """What a value can be compared with: boolean, number, text, time or date; empty is nothing here."""
    for name, kinds in (
        ("boolean", bool),
        ("number", NUMBERS),
        ("text", str),
        ("time", datetime),
        ("date", date),
    ):
        if isinstance(value, kinds):
            return name
    return ""


def _pattern_fault(pattern: object) -> str:
    if not isinstance(pattern, str):
        return ", which is no text"
    try:
        portable(pattern)
    except ValueError as error:
        return f": {error}"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, NUMBERS) and not isinstance(value, bool) and math.isfinite(value)


def _bound_fault(value: object) -> str:
    if isinstance(value, datetime):
        return "" if value.tzinfo else f"is {value}, which lacks its zone; write it like 2026-01-01T00:00:00Z."
    if isinstance(value, date):
        return ""
    if not _is_number(value):
        return f"is {value!r}, which is no number, date or time."
    return "" if abs(value) <= LARGEST_INTEGER else f"is {value!r}, which has more than 64 bits."  # type: ignore[arg-type]
