"""Rows of Spark's Kafka source as the batches that flows are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.ingestion.batch import Batch, BatchLimits
from workbench.loading import Span

COLUMNS = ("key", "value", "partition", "offset", "timestamp", "timestampType", "headers")


@dataclass(frozen=True)
class Record:
    """One record, with the methods of confluent_kafka's Message that loads are built with."""

    row: Mapping[str, Any]

    def key(self) -> bytes | None:
        """Its key."""
        return _bytes(self.row["key"])

    def value(self) -> bytes | None:
        """Its value; None is a tombstone."""
        return _bytes(self.row["value"])

    def partition(self) -> int:
        """Where it is."""
        return int(self.row["partition"])

    def offset(self) -> int:
        """Where it is there."""
        return int(self.row["offset"])

    def timestamp(self) -> tuple[int, int]:
        """Kind (0 none, 1 of the producer, 2 of the broker) and milliseconds since 1970."""
        return (self.row["timestampType"] + 1, self.row["timestamp"])

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Names and values."""
        found = self.row["headers"]
        return [(each["key"], _bytes(each["value"])) for each in found] if found else None


class Records(Sequence[Record]):
    """Records of an Arrow table; Python objects are made of those that somebody looks at."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return Record({name: values[index].as_py() for name, values in self._columns.items()})

    @cached_property
    def _columns(self) -> dict[str, pa.Array]:
        columns = {name: self._table[name].combine_chunks() for name in COLUMNS}
        milliseconds = pc.divide(columns["timestamp"].cast(pa.timestamp("us")).cast(pa.int64()), 1000)
        return columns | {"timestamp": milliseconds}


def pieces(batches: Iterator[pa.RecordBatch], limits: BatchLimits) -> Iterator[pa.Table]:
    """Tables of at most about *limits* records or bytes, in the order of the batches."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= limits.records or size >= limits.size_bytes:
            yield pa.Table.from_batches(held)
            held, rows, size = [], 0, 0
    if rows:
        yield pa.Table.from_batches(held)


def make_batch(table: pa.Table, positions: dict[int, int], epochs: Mapping[int, int]) -> Batch:
    """The records that are new, as a batch; moves *positions* behind them.

    Args:
        table: of Spark's Kafka source, each partition in order.
        positions: next offset of each partition: what lies before it has been written.
        epochs: of the claims.
    """
    partitions, offsets = table["partition"].to_numpy(), table["offset"].to_numpy()
    spans = []
    fresh = np.ones(len(partitions), bool)
    for partition in np.unique(partitions).tolist():
        start, mine = positions.get(partition, 0), partitions == partition
        fresh &= ~mine | (offsets >= start)
        end = max(int(offsets[mine].max()) + 1, start)
        spans.append(Span(partition, start, end, epochs.get(partition, 0)))
        positions[partition] = end
    if not fresh.all():
        table = table.filter(pa.array(fresh))
    return Batch(
        messages=Records(table),
        values=table["value"].to_pylist(),
        partitions=partitions[fresh].astype(np.int32),
        offsets=offsets[fresh],
        spans=tuple(spans),
        size_bytes=int(pc.sum(pc.binary_length(table["value"])).as_py() or 0),
    )


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
