"""Expectations against rows: all that single rows can show in one pass, on whatever engine holds the rows.

The numbers mean the same everywhere. Missing is null or not a number, and only `not_null` counts it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Protocol

from workbench.errors import SettingsError
from workbench.transformation.quality import expectations as kinds
from workbench.transformation.quality.expectations import Declaration, Expectation, Severity, family
from workbench.transformation.quality.patterns import portable
from workbench.transformation.quality.result import Outcome, Result

EXAMPLES = 5
ROWS = "rows"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# A condition on a row: of SQLAlchemy or of Spark. Both have `&`, `|` and `~`.
Condition = Any


class Engine(Protocol):
    """Rows, and the few questions that are asked of them. Conditions are never null."""

    @property
    def families(self) -> Mapping[str, str]:
        """Of each column what its values can be compared with: boolean, number, text, time, date or nothing."""

    def is_missing(self, column: str) -> Condition:
        """Null or not a number."""

    def is_below(self, column: str, value: Any) -> Condition:
        """Less than a value of the column's family; false for null."""

    def is_above(self, column: str, value: Any) -> Condition:
        """More than a value of the column's family; false for null."""

    def is_in(self, column: str, values: Sequence[Any]) -> Condition:
        """One of the values; false for null."""

    def matches(self, column: str, pattern: str) -> Condition:
        """The whole text matches a `portable` pattern; false for null."""

    def aggregate(self, conditions: Mapping[str, Condition], newest: Mapping[str, str]) -> Mapping[str, int | None]:
        """One pass over the rows.

        Args:
            conditions: counted are the rows that meet each.
            newest: columns, of which the newest time is found.

        Returns:
            Counts and times by the same keys, and under `ROWS` the number of rows. Times are
            microseconds since 1970 in UTC, None when there is none.
        """

    def count_surplus(self, columns: Sequence[str]) -> int:
        """The rows that are too many when each combination of values may be there once; missing values do not count."""

    def count_orphans(self, columns: Sequence[str], table: str, references: Sequence[str]) -> int:
        """The rows whose values are not in the other table; missing values do not count."""

    def examples(self, condition: Condition, columns: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """The columns of some rows that meet a condition."""

    def surplus_examples(self, columns: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """Some combinations of values that are there more than once."""

    def orphan_examples(
        self, columns: Sequence[str], table: str, references: Sequence[str], shown: Sequence[str], limit: int
    ) -> list[dict[str, Any]]:
        """The columns *shown* of some rows that `count_orphans` counts."""


@dataclass(frozen=True)
class Plan:
    """Which rows an expectation speaks of, and which of them break it; None where the pass cannot tell."""

    expectation: Expectation
    applies: Condition | None
    fails: Condition | None


@dataclass(frozen=True)
class Found:
    """What one pass has found, and what is needed to judge it."""

    counts: Mapping[str, int | None]
    engine: Engine
    declaration: Declaration
    now: datetime
    previous: Mapping[str, float]

    @property
    def rows(self) -> int:
        """Of the whole table."""
        return self.counts[ROWS] or 0


def check(
    engine: Engine,
    declaration: Declaration,
    *,
    now: datetime | None = None,
    previous: Mapping[str, float] | None = None,
) -> Result:
    """Compare rows with what is expected of them: one pass, and one more for each `unique` and `foreign_key`.

    Args:
        engine: the rows.
        declaration: what is expected.
        now: what ages are counted to; the time of the call when it is not given.
        previous: what was observed on an earlier day, by the name of the expectation.

    Raises:
        SettingsError: naming every column that is not there or of another type.
    """
    refuse_misfits(engine, declaration)
    now = now or datetime.now(UTC)
    plans = [Plan(each, *conditions(engine, each)) for each in declaration.expectations]
    wanted: dict[str, Condition] = {}
    newest: dict[str, str] = {}
    for number, plan in enumerate(plans):
        wanted |= {} if plan.applies is None else {f"applies{number}": plan.applies}
        wanted |= {} if plan.fails is None else {f"fails{number}": plan.fails}
        if isinstance(plan.expectation, kinds.Freshness):
            newest[f"newest{number}"] = plan.expectation.column
    found = Found(engine.aggregate(wanted, newest), engine, declaration, now, previous or {})
    outcomes = tuple(_outcome(plan, number, found) for number, plan in enumerate(plans))
    return Result(table=declaration.table, at=now, rows=found.rows, outcomes=outcomes)


def conditions(engine: Engine, expectation: Expectation) -> tuple[Condition | None, Condition | None]:
    """Which rows an expectation speaks of and which break it; None when all, or when a row does not tell."""
    if isinstance(expectation, kinds.RowCount):
        return None, None
    missing = None
    for column in expectation.about:
        missing = engine.is_missing(column) if missing is None else missing | engine.is_missing(column)
    assert missing is not None, "every other kind has columns"
    if isinstance(expectation, kinds.NotNull):
        return None, missing
    fails = None
    if isinstance(expectation, kinds.Range):
        bounds = ((engine.is_below, expectation.min), (engine.is_above, expectation.max))
        for compared, bound in bounds:
            if bound is not None:
                outside = compared(expectation.column, bound)
                fails = outside if fails is None else fails | outside
    elif isinstance(expectation, kinds.Values):
        fails = ~engine.is_in(expectation.column, expectation.values)
    elif isinstance(expectation, kinds.Matches):
        fails = ~engine.matches(expectation.column, portable(expectation.pattern))
    return ~missing, None if fails is None else ~missing & fails


def refuse_misfits(engine: Engine, declaration: Declaration) -> None:
    """Raise when a column is not there, or cannot be compared with what is expected.

    Raises:
        SettingsError: naming every one.
    """
    found = [
        f"{declaration.table}: {where} has the column {column!r}, which the table has not."
        for where, columns in (("key", declaration.key), ("sensitive", declaration.sensitive))
        for column in columns
        if column not in engine.families
    ]
    for each in declaration.expectations:
        found += [f"{declaration.table}: {each.name!r}: {problem}" for problem in _misfits(engine.families, each)]
    if found:
        raise SettingsError(found)


def _misfits(families: Mapping[str, str], expectation: Expectation) -> Iterator[str]:
    missing = [column for column in expectation.about if column not in families]
    for column in missing:
        yield f"the table has no column {column!r}."
    if missing:
        return
    wanted: Collection[str] = ()
    if isinstance(expectation, kinds.Range):
        wanted = {family(each) for each in (expectation.min, expectation.max) if each is not None}
    elif isinstance(expectation, kinds.Values):
        wanted = {family(each) for each in expectation.values}
    elif isinstance(expectation, kinds.Matches):
        wanted = {"text"}
    elif isinstance(expectation, kinds.Freshness):
        wanted = {"time"}
    for each in wanted:
        column = expectation.about[0]
        if families[column] != each:
            yield f"column {column} is {families[column] or 'of a type that cannot be compared'}, not {each}."


def _outcome(plan: Plan, number: int, found: Found) -> Outcome:
    expectation = plan.expectation
    checked = found.rows if plan.applies is None else found.counts[f"applies{number}"] or 0
    make = partial(
        Outcome,
        name=expectation.name,
        kind=expectation.kind,
        columns=expectation.about,
        severity=Severity(expectation.severity),
        checked=checked,
    )
    if isinstance(expectation, kinds.RowCount):
        fault = _count_fault(expectation, found.rows, found.previous.get(expectation.name))
        return make(failed=0, observed=float(found.rows), passed=not fault, explanation=fault)
    if isinstance(expectation, kinds.Freshness):
        newest = found.counts[f"newest{number}"]
        # Whole microseconds: a double of seconds since 1970 has not all of them.
        age = None if newest is None else ((found.now - EPOCH) // MICROSECOND - newest) / 1_000_000
        fault = _age_fault(expectation, age)
        return make(failed=0, observed=age, passed=not fault, explanation=fault)
    failed = _failed(found.engine, plan, found.counts.get(f"fails{number}"))
    # As decimals: 7 of 100 rows are no more than a share of 0.07.
    passed = failed <= Decimal(str(expectation.tolerance)) * checked
    allowed = f", more than a share of {expectation.tolerance:.6g}" if expectation.tolerance else ""
    return make(
        failed=failed,
        observed=failed / checked if checked else 0.0,
        passed=passed,
        explanation="" if passed else f"{failed:,} of {checked:,} rows fail{allowed}",
        examples=() if passed else tuple(_examples(plan, found)),
    )


def _failed(engine: Engine, plan: Plan, counted: int | None) -> int:
    expectation = plan.expectation
    if isinstance(expectation, kinds.Unique):
        return engine.count_surplus(expectation.columns)
    if isinstance(expectation, kinds.ForeignKey):
        return engine.count_orphans(expectation.columns, expectation.table, expectation.referenced)
    return counted or 0


def _count_fault(expectation: kinds.RowCount, rows: int, before: float | None) -> str:
    if expectation.min is not None and rows < expectation.min:
        return f"{rows:,} rows, fewer than {expectation.min:,}"
    if expectation.max is not None and rows > expectation.max:
        return f"{rows:,} rows, more than {expectation.max:,}"
    if not before:
        return ""
    if expectation.min_ratio is not None and rows < expectation.min_ratio * before:
        return f"{rows:,} rows, fewer than {expectation.min_ratio:g} of the {before:,.0f} before"
    if expectation.max_ratio is not None and rows > expectation.max_ratio * before:
        return f"{rows:,} rows, more than {expectation.max_ratio:g} of the {before:,.0f} before"
    return ""


def _age_fault(expectation: kinds.Freshness, age: float | None) -> str:
    if age is None:
        return "there is no time"
    if age > expectation.max_age_seconds:
        return f"the newest is {age:,.0f} s old, more than {expectation.max_age_seconds:,.0f} s"
    return ""


def _examples(plan: Plan, found: Found) -> list[dict[str, Any]]:
    expectation, engine, declaration = plan.expectation, found.engine, found.declaration
    if expectation.severity != Severity.STOP:
        return []
    if isinstance(expectation, kinds.Unique):
        is_secret = set(expectation.columns) & set(declaration.sensitive)
        return [] if is_secret else engine.surplus_examples(expectation.columns, EXAMPLES)
    shown = [column for column in declaration.key if column not in declaration.sensitive]
    if not shown:
        return []
    if isinstance(expectation, kinds.ForeignKey):
        return engine.orphan_examples(expectation.columns, expectation.table, expectation.referenced, shown, EXAMPLES)
    return engine.examples(plan.fails, shown, EXAMPLES)
