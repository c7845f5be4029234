"""What checks of tables have found over time: `workbench.quality_results`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import sqlalchemy as sa

from workbench.warehouse.schema import ensure_table

NAME = "workbench.quality_results"
COLUMNS = pa.schema([
    pa.field("run", pa.string(), nullable=False),
    pa.field("expectation", pa.string(), nullable=False),
    pa.field("table", pa.string(), nullable=False),
    pa.field("checked_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("kind", pa.string(), nullable=False),
    pa.field("columns", pa.string(), nullable=False),
    pa.field("severity", pa.string(), nullable=False),
    pa.field("rows_checked", pa.int64(), nullable=False),
    pa.field("rows_failed", pa.int64(), nullable=False),
    pa.field("observed", pa.float64()),
    pa.field("passed", pa.bool_(), nullable=False),
    pa.field("explanation", pa.string(), nullable=False),
])  # fmt: skip
KEY = ("run", "expectation")
RESULTS = sa.table("quality_results", *(sa.column(name) for name in COLUMNS.names), schema="workbench")


def record_results(connection: sa.Connection, table: str, at: datetime, outcomes: Sequence[Mapping[str, Any]]) -> str:
    """Write the outcomes of one check; returns the id of its run.

    Args:
        connection: in a transaction; the table of results is made in it when it is not there.
        table: that was checked.
        at: when.
        outcomes: as `workbench.transformation.quality.result.Result.records` gives them.
    """
    ensure_table(connection, NAME, COLUMNS, key=KEY, unique=False)
    run = uuid4().hex
    rows = [
        {
            "run": run,
            "expectation": each["name"],
            "table": table,
            "checked_at": at,
            "rows_checked": each["checked"],
            "rows_failed": each["failed"],
            **{name: each[name] for name in ("kind", "columns", "severity", "observed", "passed", "explanation")},
        }
        for each in outcomes
    ]
    if rows:
        connection.execute(sa.insert(RESULTS), rows)
    return run


def read_previous(connection: sa.Connection, table: str, now: datetime) -> Mapping[str, float]:
    """What was observed last before the day of *now* in UTC, by expectation; empty when nothing was recorded."""
    if not sa.inspect(connection).has_table("quality_results", "workbench"):
        return {}
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    before = (RESULTS.c.table == table) & (RESULTS.c.checked_at < sa.literal(today, sa.TIMESTAMP(timezone=True)))
    order = sa.func.row_number().over(partition_by=RESULTS.c.expectation, order_by=RESULTS.c.checked_at.desc())
    ranked = (
        sa.select(RESULTS.c.expectation, RESULTS.c.observed, order.label("age"))
        .where(before, RESULTS.c.observed.is_not(None))
        .subquery()
    )
    found = connection.execute(sa.select(ranked.c.expectation, ranked.c.observed).where(ranked.c.age == 1))
    return {row.expectation: float(row.observed) for row in found}


def read_latest(connection: sa.Connection, table: str) -> tuple[Mapping[str, Any], ...]:
    """The outcomes of the last check of *table*, those that failed first; empty when it was never checked."""
    if not sa.inspect(connection).has_table("quality_results", "workbench"):
        return ()
    mine = RESULTS.c.table == table
    last = sa.select(RESULTS.c.run).where(mine).order_by(RESULTS.c.checked_at.desc()).limit(1).scalar_subquery()
    order = (RESULTS.c.passed, RESULTS.c.expectation)
    found = connection.execute(sa.select(RESULTS).where(mine, RESULTS.c.run == last).order_by(*order))
    return tuple(dict(row) for row in found.mappings())
