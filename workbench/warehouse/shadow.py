"""A table's rows replaced by those of a shadow table, with offsets and dead letters, in one transaction.

Rows are copied, not the table renamed: views, grants and indexes of the table stay, and who reads
sees the old rows until all of the new are there.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.loading import Target
from workbench.warehouse.ledger import LEDGER
from workbench.warehouse.schema import quoted, read_columns, split_name, sql_type


def forget(connection: sa.Connection, target: Target) -> None:
    """Drop a shadow table with its offsets and dead letters, when there are any."""
    connection.execute(sa.text(f"DROP TABLE IF EXISTS {quoted(*split_name(target.table))}"))
    if sa.inspect(connection).has_table("offsets", "workbench"):
        connection.execute(sa.delete(LEDGER).where(_of(target)))
    schema, name = split_name(target.dead_letters)
    if sa.inspect(connection).has_table(name, schema):
        letters = quoted(schema, name)
        connection.execute(sa.text(f"DELETE FROM {letters} WHERE target = :target"), {"target": target.table})


def copy_earlier(connection: sa.Connection, live: Target, shadow: Target, first_offsets: Mapping[int, int]) -> int:
    """Copy the rows of *live* from before the first offsets into *shadow*; returns how many."""
    names = _common_columns(connection, live, shadow)
    source, sink = quoted(*split_name(live.table)), quoted(*split_name(shadow.table))
    copied = 0
    for partition, first in first_offsets.items():
        copied += connection.execute(
            sa.text(
                f"INSERT INTO {sink} ({names}) SELECT {names} FROM {source} WHERE _partition = :partition AND _offset < :first"
            ),
            {"partition": partition, "first": first},
        ).rowcount
    return copied


def take_place(connection: sa.Connection, live: Target, shadow: Target, keep: str) -> int:
    """Make the rows, offsets and dead letters of *shadow* those of *live*; returns the number of rows.

    A worker of the live flow is fenced: what it has read since is read again, from the offsets
    of the shadow.

    Args:
        connection: in a transaction.
        live: the flow's target.
        shadow: a target that was filled and verified; it is dropped.
        keep: name of a new table for the old rows; empty drops them.
    """
    begun = _move_offsets(connection, live, shadow)
    table, source = quoted(*split_name(live.table)), quoted(*split_name(shadow.table))
    letters = quoted(*split_name(live.dead_letters))
    for partition, first in begun.items():
        connection.execute(
            sa.text(
                f"DELETE FROM {letters} WHERE topic = :topic AND (target = :live OR target IS NULL) "
                "AND record_partition = :partition AND record_offset >= :first"
            ),
            {"topic": live.topic, "live": live.table, "partition": partition, "first": first},
        )
    names = {"live": live.table, "shadow": shadow.table}
    connection.execute(sa.text(f"UPDATE {letters} SET target = :live WHERE target = :shadow"), names)
    if keep:
        connection.execute(sa.text(f"CREATE TABLE {quoted(*split_name(keep))} AS SELECT * FROM {table}"))
    _add_columns(connection, live, shadow)
    # A partition that came after the shadow was filled keeps its rows, and its offsets.
    partitions = ", ".join(map(str, begun)) or "NULL"
    connection.execute(sa.text(f"DELETE FROM {table} WHERE _partition IN ({partitions})"))
    columns = _common_columns(connection, shadow, live)
    rows = connection.execute(sa.text(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {source}")).rowcount
    connection.execute(sa.text(f"DROP TABLE {source}"))
    return rows


def _move_offsets(connection: sa.Connection, live: Target, shadow: Target) -> dict[int, int]:
    """Give the live flow the offsets of the shadow under a new epoch; returns where the shadow began."""
    begun = {}
    for row in connection.execute(sa.select(LEDGER).where(_of(shadow))).all():
        begun[row.partition] = row.first_offset
        mine = _of(live) & (LEDGER.c.partition == row.partition)
        moved = connection.execute(
            sa.update(LEDGER)
            .where(mine)
            .values(
                next_offset=row.next_offset,
                first_offset=sa.case(
                    (LEDGER.c.first_offset < row.first_offset, LEDGER.c.first_offset), else_=row.first_offset
                ),
                epoch=LEDGER.c.epoch + 1,
            )
        )
        if not moved.rowcount:
            raise WarehouseError(
                f"the flow into {live.table} knows nothing of partition {row.partition}, which the shadow has",
                remedy="Run the flow once (`workbench ingest run`), then replay again.",
            )
    connection.execute(sa.delete(LEDGER).where(_of(shadow)))
    return begun


def _add_columns(connection: sa.Connection, live: Target, shadow: Target) -> None:
    """Give the live table the columns that only the shadow has."""
    here, there = read_columns(connection, live.table), read_columns(connection, shadow.table)
    assert here is not None
    assert there is not None
    for field in there:
        if field.name not in here.names:
            kind = sa.types.to_instance(sql_type(field)).compile(connection.dialect)
            table = quoted(*split_name(live.table))
            connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN {quoted(field.name)} {kind}"))


def _common_columns(connection: sa.Connection, one: Target, other: Target) -> str:
    here, there = read_columns(connection, one.table), read_columns(connection, other.table)
    assert here is not None
    assert there is not None
    return ", ".join(quoted(name) for name in here.names if name in there.names)


def _of(target: Target) -> sa.ColumnElement[bool]:
    return (LEDGER.c.target == target.table) & (LEDGER.c.topic == target.topic)
