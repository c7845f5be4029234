"""A table's rows replaced by those of a shadow table, with offsets and dead letters, in one transaction.

Rows are copied, not the table renamed: views, grants and indexes of the table stay, and who reads
sees the old rows until all of the new are there.
"""

from __future__ import annotations

import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.loading import Mode, Target
from workbench.warehouse.filtered import forget_filtered
from workbench.warehouse.ledger import LEDGER
from workbench.warehouse.schema import literal, quoted, read_columns, split_name, sql_type


def forget(connection: sa.Connection, target: Target) -> None:
    """Drop a shadow table with its offsets and dead letters, when there are any."""
    connection.execute(literal(f"DROP TABLE IF EXISTS {quoted(*split_name(target.table))}"))
    if sa.inspect(connection).has_table("offsets", "workbench"):
        connection.execute(sa.delete(LEDGER).where(_of(target)))
    forget_filtered(connection, target)
    schema, name = split_name(target.dead_letters)
    if sa.inspect(connection).has_table(name, schema):
        letters = _escaped(quoted(schema, name))
        connection.execute(sa.text(f"DELETE FROM {letters} WHERE target = :target"), {"target": target.table})


def take_place(connection: sa.Connection, live: Target, shadow: Target, keep: str) -> int:
    """Make the rows, offsets and dead letters of *shadow* those of *live*; returns the number of rows.

    Of what is appended, rows and letters from before the shadow's first offsets stay as they are.
    A worker of the live flow is fenced: what it has read since is read again, from the offsets
    of the shadow.

    Args:
        connection: in a transaction.
        live: the flow's target.
        shadow: a target that was filled and verified; it is dropped.
        keep: name of a new table for the old rows; empty drops them.

    Raises:
        WarehouseError: when the shadow is gone, or begins after what the live flow has read.
    """
    table, source = quoted(*split_name(live.table)), quoted(*split_name(shadow.table))
    letters = quoted(*split_name(live.dead_letters))
    begun = _move_offsets(connection, live, shadow)
    # After the offsets, as workers lock them; the letters first, as who replays them does.
    connection.execute(literal(f"LOCK TABLE {letters}, {table}, {source} IN SHARE ROW EXCLUSIVE MODE"))
    for partition, first in begun.items():
        connection.execute(
            sa.text(
                f"DELETE FROM {_escaped(letters)} WHERE topic = :topic AND (target = :live OR target IS NULL) "
                "AND record_partition = :partition AND record_offset >= :first"
            ),
            {"topic": live.topic, "live": live.table, "partition": partition, "first": first},
        )
    names = {"live": live.table, "shadow": shadow.table}
    connection.execute(sa.text(f"UPDATE {_escaped(letters)} SET target = :live WHERE target = :shadow"), names)
    if keep:
        connection.execute(literal(f"CREATE TABLE {quoted(*split_name(keep))} AS SELECT * FROM {table}"))
    _add_columns(connection, live, shadow)
    for partition, first in begun.items():
        # A partition that came after the shadow was filled keeps its rows, and its offsets. What is
        # merged begins anew: a row may have come from a record that is gone.
        since = "" if live.mode is Mode.MERGE else f" AND _offset >= {int(first)}"
        connection.execute(literal(f"DELETE FROM {table} WHERE _partition = {int(partition)}{since}"))
    if live.mode is Mode.MERGE:
        # Rows that were there before the flow are replaced like others; they are of no partition.
        same = " AND ".join(f"mine.{quoted(name)} = theirs.{quoted(name)}" for name in live.key)
        others = f"mine._partition IS NULL AND {same}"
        connection.execute(literal(f"DELETE FROM {table} AS mine USING {source} AS theirs WHERE {others}"))
    # Steps that the flow had before: what they left out was read again.
    forget_filtered(connection, live, dict.fromkeys(begun, 0) if live.mode is Mode.MERGE else begun)
    columns = _common_columns(connection, shadow, live)
    connection.execute(literal(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {source}"))
    connection.execute(literal(f"DROP TABLE {source}"))
    return int(connection.execute(literal(f"SELECT count(*) FROM {table}")).scalar_one())


def _move_offsets(connection: sa.Connection, live: Target, shadow: Target) -> dict[int, int]:
    """Give the live flow the offsets of the shadow under a new epoch; returns where the shadow began."""
    rows = connection.execute(sa.select(LEDGER).where(_of(shadow)).with_for_update()).all()
    mine = connection.execute(sa.select(LEDGER).where(_of(live)).order_by(LEDGER.c.partition).with_for_update()).all()
    read = {row.partition: row.next_offset for row in mine}
    if not rows:
        raise WarehouseError(f"the shadow {shadow.table} is gone", remedy="Do not replay a flow twice at once.")
    if behind := [row for row in rows if read.get(row.partition, -1) < row.first_offset]:
        raise WarehouseError(
            f"the flow into {live.table} has not read partition {behind[0].partition} up to {behind[0].first_offset}, where the replay began",
            remedy="Run the flow to its end first (`workbench ingest run`), then replay again.",
        )
    for row in rows:
        connection.execute(
            sa.update(LEDGER)
            .where(_of(live) & (LEDGER.c.partition == row.partition))
            .values(
                next_offset=row.next_offset,
                # Unknown is from the first record on, and stays so.
                first_offset=sa.case(
                    (LEDGER.c.first_offset > row.first_offset, row.first_offset), else_=LEDGER.c.first_offset
                ),
                epoch=LEDGER.c.epoch + 1,
            )
        )
    connection.execute(sa.delete(LEDGER).where(_of(shadow)))
    return {row.partition: row.first_offset for row in rows}


def _escaped(name: str) -> str:
    """A quoted name in a statement with parameters."""
    return name.replace(":", "\\:")


def _add_columns(connection: sa.Connection, live: Target, shadow: Target) -> None:
    """Give the live table the columns that only the shadow has."""
    here, there = read_columns(connection, live.table), read_columns(connection, shadow.table)
    assert here is not None
    assert there is not None
    for field in there:
        if field.name not in here.names:
            kind = sa.types.to_instance(sql_type(field)).compile(connection.dialect)
            table = quoted(*split_name(live.table))
            connection.execute(literal(f"ALTER TABLE {table} ADD COLUMN {quoted(field.name)} {kind}"))


def _common_columns(connection: sa.Connection, one: Target, other: Target) -> str:
    here, there = read_columns(connection, one.table), read_columns(connection, other.table)
    assert here is not None
    assert there is not None
    return ", ".join(quoted(name) for name in here.names if name in there.names)


def _of(target: Target) -> sa.ColumnElement[bool]:
    return (LEDGER.c.target == target.table) & (LEDGER.c.topic == target.topic)
