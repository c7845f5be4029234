"""The records that the steps of a flow left out, a bit for each: without it nobody could tell them from lost ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
_FILTERED = sa.table("filtered", *(sa.column(each) for each in COLUMNS.names), schema="workbench")
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
    if not _is_there(connection):
        return
    for row in connection.execute(sa.select(_FILTERED).where(_of(target))):
        yield _unpacked(row)


def forget_filtered(connection: sa.Connection, target: Target, since: Mapping[int, int] | None = None) -> None:
    """Forget the records that the steps of a flow left out: all of them, or those of partitions from an offset on."""
    if not _is_there(connection):
        return
    kept: list[pa.Table] = []
    within = _of(target)
    if since is not None:
        within &= _FILTERED.c.record_partition.in_(since)
        for row in connection.execute(sa.select(_FILTERED).where(within)):
            found = pa.Table.from_batches([_unpacked(row)])
            kept.append(found.filter(pc.less(found["_offset"], since[row.record_partition])))
    connection.execute(sa.delete(_FILTERED).where(within))
    if kept and (rows := pack(target, pa.concat_tables(kept)).to_pylist()):
        connection.execute(sa.insert(_FILTERED), rows)


def _is_there(connection: sa.Connection) -> bool:
    schema, name = split_name(TABLE)
    return sa.inspect(connection).has_table(name, schema)


def _of(target: Target) -> sa.ColumnElement[bool]:
    return (_FILTERED.c.target == target.table) & (_FILTERED.c.topic == target.topic)


def _unpacked(row: sa.Row[Any]) -> pa.RecordBatch:
    offsets = np.flatnonzero(np.unpackbits(np.frombuffer(row.bits, np.uint8))) + row.first_offset
    partitions = np.full(len(offsets), row.record_partition, np.int32)
    return pa.RecordBatch.from_arrays([pa.array(partitions), pa.array(offsets)], schema=pa.schema(list(ORIGIN)))
