"""Rows that are older than their table keeps them."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from workbench.sections import WarehouseSettings
from workbench.warehouse.engine import make_engine, reported
from workbench.warehouse.policies.data.tables import CLOCKS, DataTable

BATCH_ROWS = 20_000  #: of one transaction: its locks and its WAL are small, and a stop loses little
LOCK_SECONDS = 30


def count_overdue(connection: sa.Connection, table: DataTable) -> int:
    """How many rows of *table* are older than it keeps them; 0 without `keep`."""
    if table.data.keep is None:
        return 0
    query = f"SELECT count(*) FROM {table.identifier} WHERE {_is_old(table)}"
    return int(connection.execute(sa.text(query), _days(table)).scalar_one())


def remove_overdue(settings: WarehouseSettings, table: DataTable) -> Iterator[int]:
    """Remove them in batches, each of which is committed; gives the rows of each batch.

    A row whose column of age is null stays, and one that somebody else changes is left for the next time. Who stops in between has removed whole batches, and the next time goes on.

    Raises:
        WarehouseError: when the warehouse cannot be reached or refuses, for one a row that others refer to.
    """
    if table.data.keep is None:
        return
    old = _is_old(table)
    if table.has_parts:
        # A row's place is one within its part only.
        statement, most = f"DELETE FROM {table.identifier} WHERE {old}", None
    else:
        places = f"SELECT ctid FROM {table.identifier} WHERE {old} LIMIT {BATCH_ROWS} FOR UPDATE SKIP LOCKED"
        statement, most = f"DELETE FROM {table.identifier} WHERE ctid = ANY (ARRAY({places}))", BATCH_ROWS
    engine = make_engine(settings, lock_seconds=LOCK_SECONDS)
    try:
        while True:
            with reported(settings), engine.begin() as connection:
                removed = connection.execute(sa.text(statement), _days(table)).rowcount
            yield removed
            if most is None or removed < most:
                return
    finally:
        engine.dispose()


def _is_old(table: DataTable) -> str:
    assert table.data.keep is not None
    column = table.data.keep.by
    # In hours: a day of 24 of them, whatever clocks do in the session's zone.
    return f"{table.column(column)} < {CLOCKS[table.types[column]]} - make_interval(hours => :hours)"


def _days(table: DataTable) -> dict[str, int]:
    assert table.data.keep is not None
    return {"hours": table.data.keep.days * 24}
