"""Flows with steps: rows take the way through the steps, records go around them, and both meet before they are written.

    Kafka ─┬─ decode ─ steps ─────────┬─ by partition, by offset ─ commit
           └─ pieces of raw records ──┘

A piece says which records there were. With it a task knows, for each record, whether it became a
row, does not fit (a dead letter, with its bytes), or was left out by a step; and how far it has
come, when all were. Topics are read twice for it. Nothing is kept in between, so nothing can be
left behind by a driver that was killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workbench.errors import StepRefused, WorkbenchError
from workbench.ingestion.batch import Batch, BatchLimits
from workbench.ingestion.committing import Decoding, commit
from workbench.ingestion.decoding import Decoded, Decoder
from workbench.ingestion.decoding.guarded import decode_guarded
from workbench.ingestion.flow import count
from workbench.ingestion.loads import LoadBuilder
from workbench.ingestion.pipeline import rare_collections
from workbench.loading import JSON, ORIGIN, Warehouse, with_json_as_text
from workbench.spark_lane.records import make_batch, pieces
from workbench.spark_lane.tasks import report, report_error, wait
from workbench.transformation.row_wise import Step, apply_steps, in_order, plain, spark_schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PIECE = "__workbench_piece"
PIECE_SCHEMA = pa.schema([*ORIGIN, pa.field(PIECE, pa.binary())])
PIECE_DDL = f"_partition int, _offset long, {PIECE} binary"
PIECE_BYTES = 16_000_000  # of raw records in one row of a frame
REMEDY = "Steps of a flow keep `_partition` and `_offset` as they are, and make at most one row of a record."
NAMES = tuple(field.name for field in ORIGIN)


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Raw records as a row for each piece of a partition, which is at the piece's last offset."""

    limits: BatchLimits

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Of one task (`DataFrame.mapInArrow`)."""
        for table in pieces(batches, self.limits):
            partitions = table["partition"].to_numpy()
            for partition in np.unique(partitions).tolist():
                mine = table.filter(pa.array(partitions == partition))
                last = int(mine["offset"].to_numpy().max())
                yield pa.RecordBatch.from_arrays(
                    [pa.array([partition], pa.int32()), pa.array([last]), pa.array([_packed(mine)], pa.binary())],
                    schema=PIECE_SCHEMA,
                )


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Raw records as rows for the steps; what does not fit is found again when it is written."""

    make_decoder: Callable[[pa.Schema], Decoder]
    loads: LoadBuilder
    columns: pa.Schema  #: that a decoder gives
    limits: BatchLimits

    @property
    def schema(self) -> pa.Schema:
        """The columns that the first step is given."""
        return self.loads.columns(self.columns)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Of one task (`DataFrame.mapInArrow`)."""
        decoder, schema = self.make_decoder(self.columns), plain(self.schema)
        for table in pieces(batches, self.limits):
            batch = make_batch(table, {}, {})
            decoded = decode_guarded(decoder, batch.values)
            rows = self.loads.with_origin(batch, decoded.rows, np.asarray(decoded.positions, np.int64))
            yield from with_json_as_text(rows).select(schema.names).cast(schema).to_batches()


@dataclass(frozen=True, kw_only=True)
class CommitPieces:
    """Writes pieces, each with the rows that the steps have left of it, in one transaction."""

    open_warehouse: Callable[[], Warehouse]
    make_decoder: Callable[[pa.Schema], Decoder]
    columns: pa.Schema  #: that a decoder gives
    loads: LoadBuilder
    rows: pa.Schema  #: that the steps give, with `ORIGIN`
    epochs: Mapping[int, int]  #: of the claims, by partition
    outage_seconds: float

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Of one task; a row of `REPORT` for each commit (`DataFrame.mapInArrow`)."""
        try:
            with rare_collections():
                yield from self._commits(batches)
        except WorkbenchError as error:
            yield report_error(error)

    def _commits(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        decoder = self.make_decoder(self.columns)
        with self.open_warehouse() as warehouse:
            positions: dict[int, int] = {}
            for rows, piece in _met(batches):
                positions = positions or {each.partition: each.next_offset for each in warehouse.progress()}
                batch = make_batch(piece, positions, self.epochs)
                if not batch.messages:
                    continue
                batch, decoded = self._found(batch, rows, decoder)
                started = time.monotonic()
                work = Decoding(batch, decoded, self.loads.build(batch, decoded))
                load = commit(work, warehouse, self.loads, outage_seconds=self.outage_seconds, wait=wait)
                if load is not None:
                    yield report(**vars(count(load, batch, time.monotonic() - started)))

    def _found(self, batch: Batch, rows: pa.Table, decoder: Decoder) -> tuple[Batch, Decoded]:
        """What became of each record of the batch: a row, a dead letter, or nothing, because a step left it out."""
        partition = batch.spans[0].partition
        # What lies before the batch was written by an earlier try of this task.
        rows = rows.filter(pa.array(rows["_offset"].to_numpy() >= batch.spans[0].start))
        offsets = rows["_offset"].to_numpy()
        positions = np.searchsorted(batch.offsets, offsets)
        _check(batch, partition, rows, positions)
        absent = np.setdiff1d(np.arange(len(batch.messages)), positions)
        left = [batch.values[each] for each in absent]
        undecodable = decode_guarded(decoder, left, are_leftovers=True).undecodable if left else ()
        letters = [replace(each, position=int(absent[each.position])) for each in undecodable]
        left_out = batch.offsets[np.setdiff1d(absent, [each.position for each in letters])]
        origin = [pa.array(np.full(len(left_out), partition, np.int32)), pa.array(left_out)]
        filtered = pa.Table.from_arrays(origin, schema=pa.schema(list(ORIGIN)))
        decoded = Decoded(_restored(rows, self.rows), tuple(positions.tolist()), tuple(letters))
        return replace(batch, filtered=filtered), decoded


def stepped(records: DataFrame, steps: Sequence[Step], decode: Decode, partitions: int) -> DataFrame:
    """The rows after all steps, and the pieces of raw records, each partition in one task and in order."""
    rows = apply_steps(records.mapInArrow(decode, spark_schema(decode.schema)), steps)
    return in_order(rows, records.mapInArrow(Pack(limits=decode.limits), PIECE_DDL), PIECE, partitions)


def _met(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The rows of each piece, and its raw records."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        column = batch.schema.get_field_index(PIECE)
        pieces_at = np.flatnonzero(batch.column(column).is_valid().to_numpy(zero_copy_only=False)).tolist()
        start = 0
        for at in pieces_at:
            held.append(batch.slice(start, at - start))
            yield pa.Table.from_batches(held).drop_columns([PIECE]), _unpacked(batch.column(column)[at].as_buffer())
            held, start = [], at + 1
        held.append(batch.slice(start))
    if rest := [each for each in held if each.num_rows]:
        _refuse_row(rest[0].column("_partition")[0].as_py(), rest[0].column("_offset")[0].as_py())


def _check(batch: Batch, partition: int, rows: pa.Table, positions: npt.NDArray[Any]) -> None:
    """Refuse rows that a step has multiplied or made up."""
    partitions, offsets = (rows[name].to_numpy() for name in NAMES)
    known = (positions < len(batch.offsets)) & (partitions == partition)
    known[known] = batch.offsets[positions[known]] == offsets[known]
    if not known.all():
        _refuse_row(int(partitions[~known][0]), int(offsets[~known][0]))
    repeated = offsets[1:][np.diff(offsets) == 0]
    if len(repeated):
        raise StepRefused(
            f"the steps give several rows for offset {int(repeated[0])} of partition {partition}", remedy=REMEDY
        )


def _refuse_row(partition: int, offset: int) -> NoReturn:
    raise StepRefused(
        f"the steps give a row for offset {offset} of partition {partition}, which is no record", remedy=REMEDY
    )


def _restored(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns beside `ORIGIN` with the types of the table; text that is JSON is JSON again."""
    arrays = []
    fields = [field for field in schema if field.name not in NAMES]
    for field in fields:
        column = rows[field.name].combine_chunks()
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        arrays.append(pa.ExtensionArray.from_storage(JSON, column) if field.type == JSON else column.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _unpacked(buffer: pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(buffer).read_all()
