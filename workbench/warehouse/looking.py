"""A table of the warehouse as people look at it first: columns, a few rows, how many there are, how fresh, how good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.loading import Target
from workbench.querying import Answer, Statement
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects import make_warehouse
from workbench.warehouse.ledger import read_positions
from workbench.warehouse.quality_results import read_latest
from workbench.warehouse.queries import run_statements
from workbench.warehouse.schema import quoted, split_name

SAMPLE_ROWS = 20
COUNTED_ROWS = 5_000_000  #: by PostgreSQL's estimate; beyond, the estimate is told
ESTIMATE = sa.text("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(:name)")


@dataclass(frozen=True, kw_only=True)
class TableLook:
    """What was found."""

    name: str  #: schema.table
    sample: Answer
    rows: int
    is_estimate: bool  #: whether *rows* is what PostgreSQL last estimated, since to count would take long
    written: Mapping[str, datetime]  #: when each flow that writes it has last committed, by topic
    checks: tuple[Mapping[str, Any], ...]  #: of the last check of its quality
    untold: tuple[str, ...] = ()  #: what this account may not see


def look_at(settings: WarehouseSettings, table: str) -> TableLook:
    """Look at *table*.

    Raises:
        WarehouseError: when the name is none, or the warehouse does not answer.
        QueryRefused: when the table is gone, or this account may not read it.
    """
    name = quoted(*split_name(table))
    sample = Statement(text=f"SELECT * FROM {name} LIMIT {SAMPLE_ROWS}", verb="SELECT", reads=True)
    (answer,) = run_statements(settings, [sample], {}, limit=SAMPLE_ROWS)
    estimate = _estimate(settings, name)
    rows = estimate if estimate > COUNTED_ROWS else _count(settings, name)
    untold: list[str] = []
    written: Mapping[str, datetime] = {}
    checks: tuple[Mapping[str, Any], ...] = ()
    with make_warehouse(settings, Target(table=table, topic="")) as warehouse:
        try:
            with warehouse.transaction() as connection:
                positions = read_positions(connection)
            mine = {topic: each for (target, topic), each in positions.items() if target == table}
            now = datetime.now(UTC)
            ages = {topic: min(age for _, age in each.values()) for topic, each in mine.items()}
            written = {topic: now - timedelta(seconds=age) for topic, age in ages.items()}
        except WarehouseError as error:
            untold.append(error.message)
        try:
            with warehouse.transaction() as connection:
                checks = read_latest(connection, table)
        except WarehouseError as error:
            untold.append(error.message)
    return TableLook(
        name=table,
        sample=answer,
        rows=rows,
        is_estimate=estimate > COUNTED_ROWS,
        written=written,
        checks=checks,
        untold=tuple(untold),
    )


def _estimate(settings: WarehouseSettings, name: str) -> int:
    if settings.dialect != "postgresql":
        return 0
    with make_warehouse(settings, Target(table="", topic="")) as warehouse, warehouse.transaction() as connection:
        return int(connection.execute(ESTIMATE, {"name": name}).scalar() or 0)


def _count(settings: WarehouseSettings, name: str) -> int:
    counting = Statement(text=f"SELECT count(*) FROM {name}", verb="SELECT", reads=True)
    (answer,) = run_statements(settings, [counting], {}, limit=1)
    return int(answer.rows[0][0])
