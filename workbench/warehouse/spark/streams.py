"""The ledger of streams, `workbench.streams`: which batch of which query a table has, written with its rows."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.sections import WarehouseSettings
from workbench.warehouse.schema import lock_ddl, split_name
from workbench.warehouse.spark.options import WriteOptions
from workbench.warehouse.spark.publishing import Write, publish
from workbench.warehouse.spark.staging import Staged

STREAMS = sa.Table(
    "streams",
    sa.MetaData(),
    sa.Column("stream", sa.Text, primary_key=True, comment="the option `stream` of the query"),
    sa.Column("target", sa.Text, primary_key=True, comment="schema.table that the stream writes"),
    sa.Column("query_id", sa.Text, nullable=False, comment="of the checkpoint"),
    sa.Column("batch_id", sa.BigInteger, nullable=False, comment="the last batch that is in the table"),
    sa.Column("rows", sa.BigInteger, nullable=False, comment="of that batch"),
    sa.Column("committed_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    schema="workbench",
)


def publish_batch(
    settings: WarehouseSettings, write: Write, staged: Sequence[Staged], query_id: str, batch_id: int
) -> int:
    """Write a batch with its number, or nothing when the table has it; returns the rows written.

    Raises:
        WarehouseError: when the table has another query's batches, later ones, or lacks earlier ones; when it is gone.
    """

    def advance(connection: sa.Connection, rows: int) -> bool:
        make_streams(connection)
        mine = (STREAMS.c.stream == write.options.stream) & (STREAMS.c.target == write.options.table)
        found = connection.execute(sa.select(STREAMS).where(mine).with_for_update()).one_or_none()
        values = {"query_id": query_id, "batch_id": batch_id, "rows": rows, "committed_at": sa.func.now()}
        if found is None:
            if batch_id:  # a new checkpoint begins with 0, and a batch without rows leaves its row, too
                raise _never_seen(write.options, batch_id)
            key = {"stream": write.options.stream, "target": write.options.table}
            connection.execute(sa.insert(STREAMS).values(**key, **values))
            return True
        if query_id and found.query_id and found.query_id != query_id:
            raise _of_another(write.options, found.batch_id, batch_id)
        # What replaces all rows has lost none of them.
        if not write.overwrite and not _has_table(connection, write.options.table):
            raise _gone(write.options, found.batch_id)
        if batch_id == found.batch_id:
            return False
        if batch_id != found.batch_id + 1:
            raise _gap(write.options, found.batch_id, batch_id)
        connection.execute(sa.update(STREAMS).where(mine).values(**{**values, "query_id": query_id or found.query_id}))
        return True

    return publish(settings, write, staged, advance)


def make_streams(connection: sa.Connection) -> None:
    """Make the ledger when it is not there."""
    if sa.inspect(connection).has_table("streams", "workbench"):
        return
    lock_ddl(connection)
    connection.execute(sa.schema.CreateSchema("workbench", if_not_exists=True))
    STREAMS.create(connection, checkfirst=True)


def _of_another(options: WriteOptions, last: int, batch_id: int) -> WarehouseError:
    return WarehouseError(
        f"{options.table} has the stream {options.stream} up to batch {last} of another checkpoint; batch {batch_id} of this "
        "one may hold rows that are there already, and was not written",
        remedy="Go on with the old checkpoint. For a new one choose another `stream`, or delete the row of this stream from "
        "workbench.streams when you know that no row would come twice.",
    )


def _has_table(connection: sa.Connection, table: str) -> bool:
    schema, name = split_name(table)
    return sa.inspect(connection).has_table(name, schema)


def _never_seen(options: WriteOptions, batch_id: int) -> WarehouseError:
    return WarehouseError(
        f"workbench.streams has no batch of the stream {options.stream} into {options.table}, and batch {batch_id} came: "
        "the checkpoint is of another warehouse, table or name; it was not written",
        remedy="Take the warehouse, `table` and `stream` that the checkpoint was made with, or begin anew with a new "
        "checkpoint: see docs/spark-warehouse.md.",
    )


def _gone(options: WriteOptions, last: int) -> WarehouseError:
    return WarehouseError(
        f"{options.table} is gone, but workbench.streams says that it has the stream {options.stream} up to batch {last}",
        remedy="Restore the table; or delete the row of this stream from workbench.streams, and begin anew with a new "
        "checkpoint.",
    )


def _gap(options: WriteOptions, last: int, batch_id: int) -> WarehouseError:
    what = "the checkpoint is older than the table" if batch_id < last else "batches between them are not in the table"
    return WarehouseError(
        f"{options.table} has the stream {options.stream} up to batch {last}, and batch {batch_id} came: {what}; it was not written",
        remedy="A checkpoint and a warehouse that were restored from backups have to be of the same moment. See "
        "docs/spark-warehouse.md on how to begin anew.",
    )
