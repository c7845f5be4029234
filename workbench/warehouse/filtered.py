"""The records that the steps of a flow left out, a bit for each: without it nobody could tell them from lost ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from workbench.loading import ORIGIN, Target
from workbench.warehouse.schema import ensure_table, split_name

TABLE = "workbench.filtered"
COLUMNS = pa.schema([
    pa.field("target", pa.string(), nullable=False),
    pa.field("topic", pa.string(), nullable=False),
    pa.field("record_partition", pa.int32(), nullable=False),
    pa.field("first_offset", pa.int64(), nullable=False),
    pa.field("bits", pa.binary(), nullable=False),  # the first bit of the first byte is the first offset
])  # fmt: skip
WIDEST = 1_000_000  # offsets of one row: what lies far apart is in several


def ensure_filtered(connection: sa.Connection) -> None:
    """Make the table when it is not there."""
    ensure_table(connection, TABLE, COLUMNS)


def pack(target: Target, filtered: pa.Table) -> pa.Table:
    """Coordinates (`ORIGIN`) as rows of the table."""
    rows = []
    partitions, offsets = (filtered[field.name].to_numpy() for field in ORIGIN)
    for partition in np.unique(partitions).tolist():
        mine = np.unique(offsets[partitions == partition])
        while len(mine):
            first = int(mine[0])
            here = mine[mine < first + WIDEST] - first
            bits = np.zeros(int(here[-1]) + 1, np.uint8)
            bits[here] = 1
            rows.append((target.table, target.topic, partition, first, np.packbits(bits).tobytes()))
            mine = mine[len(here) :]
    return pa.Table.from_arrays(
        [pa.array([row[index] for row in rows], field.type) for index, field in enumerate(COLUMNS)], schema=COLUMNS
    )


def read_filtered(connection: sa.Connection, target: Target) -> Iterator[pa.RecordBatch]:
    """Coordinates (`ORIGIN`) of all records that the steps of one flow left out."""
    schema, name = split_name(TABLE)
    if not sa.inspect(connection).has_table(name, schema):
        return
    table = sa.table(name, *(sa.column(each) for each in COLUMNS.names), schema=schema)
    mine = (table.c.target == target.table) & (table.c.topic == target.topic)
    for row in connection.execute(sa.select(table).where(mine)):
        offsets = np.flatnonzero(np.unpackbits(np.frombuffer(row.bits, np.uint8))) + row.first_offset
        partitions = np.full(len(offsets), row.record_partition, np.int32)
        yield pa.RecordBatch.from_arrays([pa.array(partitions), pa.array(offsets)], schema=pa.schema(list(ORIGIN)))
