"""The dead letters of a flow, as people look at them: counted by reason, one by one, dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from workbench.loading import Target
from workbench.warehouse.schema import split_name


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Dead letters that have one reason."""

    reason: str
    letters: int
    oldest: datetime | None  #: Kafka's time of the records
    newest: datetime | None


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One dead letter."""

    partition: int
    offset: int
    timestamp: datetime | None
    key: bytes | None
    value: bytes | None
    reason: str


def count_reasons(connection: sa.Connection, target: Target) -> tuple[Reason, ...]:
    """Dead letters by reason, the most frequent first."""
    table = _table(connection, target)
    if table is None:
        return ()
    count = sa.func.count().label("letters")
    time = table.c.record_timestamp
    query = (
        sa.select(table.c.reason, count, sa.func.min(time).label("oldest"), sa.func.max(time).label("newest"))
        .where(_mine(table, target))
        .group_by(table.c.reason)
        .order_by(count.desc(), table.c.reason)
    )
    return tuple(
        Reason(reason=row.reason, letters=row.letters, oldest=row.oldest, newest=row.newest)
        for row in connection.execute(query)
    )


def read_letters(
    connection: sa.Connection, target: Target, limit: int, at: tuple[int, int] | None
) -> tuple[Letter, ...]:
    """Dead letters in the order of partition and offset.

    Args:
        connection: to the warehouse.
        target: of the flow.
        limit: how many at most.
        at: partition and offset of the only one to read; None reads from the first on.
    """
    table = _table(connection, target)
    if table is None:
        return ()
    query = sa.select(table).where(_mine(table, target) & _at(table, at))
    found = connection.execute(query.order_by(table.c.record_partition, table.c.record_offset).limit(limit))
    return tuple(
        Letter(
            partition=row.record_partition,
            offset=row.record_offset,
            timestamp=row.record_timestamp,
            key=_bytes(row.record_key),
            value=_bytes(row.record_value),
            reason=row.reason,
        )
        for row in found
    )


def drop_letters(connection: sa.Connection, target: Target, at: tuple[int, int] | None) -> int:
    """Delete one dead letter of a flow, or all; returns how many there were."""
    table = _table(connection, target)
    if table is None:
        return 0
    chosen = _mine(table, target) & _at(table, at)
    count = connection.execute(sa.select(sa.func.count()).select_from(table).where(chosen)).scalar_one()
    connection.execute(sa.delete(table).where(chosen))
    return int(count)


def _table(connection: sa.Connection, target: Target) -> sa.Table | None:
    schema, name = split_name(target.dead_letters)
    if not sa.inspect(connection).has_table(name, schema):
        return None
    return sa.Table(name, sa.MetaData(), schema=schema, autoload_with=connection)


def _mine(table: sa.Table, target: Target) -> sa.ColumnElement[bool]:
    mine = table.c.topic == target.topic
    if "target" in table.c:  # tables of older versions have no such column
        mine &= (table.c.target == target.table) | table.c.target.is_(None)
    return mine


def _at(table: sa.Table, at: Sequence[int] | None) -> sa.ColumnElement[bool]:
    if at is None:
        return sa.true()
    return (table.c.record_partition == at[0]) & (table.c.record_offset == at[1])


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
