"""Micro-batches of streaming queries, each in the warehouse once: rows and the batch's number are one transaction.

Spark gives a batch to `foreachBatch` again when it does not know whether it was written. The row of
the query then has its number already, and nothing is written a second time.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.sections import WarehouseSettings
from workbench.warehouse.copy import copy_rows, open_bulk, reported_bulk
from workbench.warehouse.engine import make_engine, reported
from workbench.warehouse.schema import ensure_table, split_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

TABLE = "workbench.stream_batches"
COLUMNS = pa.schema([
    pa.field("stream", pa.string(), nullable=False),
    pa.field("query_id", pa.string(), nullable=False),  # of the checkpoint: another one counts from 0 again
    pa.field("batch_id", pa.int64(), nullable=False),
    pa.field("rows", pa.int64(), nullable=False),
])  # fmt: skip
ADVANCE = (
    f"INSERT INTO {TABLE} AS mine (stream, query_id, batch_id, rows) VALUES ($1, $2, $3, $4) "
    "ON CONFLICT (stream, query_id) DO UPDATE SET batch_id = EXCLUDED.batch_id, rows = mine.rows + EXCLUDED.rows "
    "WHERE mine.batch_id < EXCLUDED.batch_id RETURNING batch_id"
)


@dataclass(frozen=True, kw_only=True)
class BatchSink:
    """What `foreachBatch` calls. It travels to the Spark server, with the password of the warehouse in it."""

    settings: WarehouseSettings = field(repr=False)
    stream: str  #: the name of the query
    table: str  #: schema.table

    def __call__(self, frame: DataFrame, batch_id: int) -> None:
        """Write one batch; one that was written already changes nothing."""
        query = next(each for each in frame.sparkSession.streams.active if each.name == self.stream)
        write_batch(
            self.settings,
            self.table,
            frame.toArrow(),
            stream=self.stream,
            query_id=str(query.id),
            batch_id=batch_id,
        )


def prepare_stream(settings: WarehouseSettings, table: str, columns: pa.Schema) -> None:
    """Make the table and the ledger of batches when they are not there.

    Raises:
        WarehouseError: when the table is there and does not fit, or the warehouse is not PostgreSQL.
    """
    if settings.dialect != "postgresql":
        raise WarehouseError(
            f"streams write to PostgreSQL only, not to {settings.dialect}", remedy="Use a PostgreSQL warehouse."
        )
    engine = make_engine(settings)
    try:
        with reported(settings), engine.begin() as connection:
            ensure_table(connection, TABLE, COLUMNS, key=("stream", "query_id"))
            ensure_table(connection, table, columns)
    finally:
        engine.dispose()


def write_batch(
    settings: WarehouseSettings, table: str, rows: pa.Table, *, stream: str, query_id: str, batch_id: int
) -> bool:
    """Append the rows of a batch and note its number in one transaction; False when it was there already."""
    with reported_bulk(settings), closing(open_bulk(settings)) as bulk:
        with bulk.cursor() as cursor:
            cursor.execute(ADVANCE, (stream, query_id, batch_id, rows.num_rows))
            if not cursor.fetchall():
                return False
            copy_rows(cursor, *split_name(table), rows)
        bulk.commit()
    return True


def written_batches(settings: WarehouseSettings, stream: str) -> dict[str, int]:
    """The number of the last batch of each query that a stream has had; empty when it never wrote."""
    engine = make_engine(settings)
    try:
        with reported(settings), engine.begin() as connection:
            if not sa.inspect(connection).has_table(*reversed(split_name(TABLE))):
                return {}
            found = connection.execute(
                sa.text(f"SELECT query_id, batch_id FROM {TABLE} WHERE stream = :s"), {"s": stream}
            )
            return {row.query_id: row.batch_id for row in found}
    finally:
        engine.dispose()
