"""A flow moves a topic into a table: the rows, the dead letters and the next offsets are one transaction.

The warehouse holds the truth about offsets. A flow claims its partitions there, which raises
their epoch; a commit names the epoch and the offset that it goes on from, and changes nothing
when either is no longer so. Killed at any instant, a flow goes on from the last commit: no
record is lost, none is written twice, and a worker that was believed dead cannot write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from workbench.ingestion.connection import KafkaConnection
from workbench.ingestion.consumer import Batch, PartitionReader
from workbench.ingestion.decoding import Decoded, JsonDecoder
from workbench.ingestion.watermarks import read_topic_state

BATCH_RECORDS = 50_000
LAST_MILLISECOND = 253_402_300_799_999  # of the year 9999
# Every row carries where it came from.
ORIGIN = (pa.field("_partition", pa.int32(), nullable=False), pa.field("_offset", pa.int64(), nullable=False))

DEAD_LETTERS = pa.schema([
    pa.field("topic", pa.string(), nullable=False),
    pa.field("record_partition", pa.int32(), nullable=False),
    pa.field("record_offset", pa.int64(), nullable=False),
    pa.field("record_timestamp", pa.timestamp("us", tz="UTC")),
    pa.field("record_key", pa.binary()),
    pa.field("record_value", pa.binary()),
    pa.field("reason", pa.string(), nullable=False),
])  # fmt: skip


class Claim(Protocol):
    """What a flow holds of one partition; a warehouse may know more about it."""

    @property
    def partition(self) -> int:
        """Number of the partition."""

    @property
    def next_offset(self) -> int:
        """Offset of the next record to read."""


ClaimT = TypeVar("ClaimT", bound=Claim)


class Warehouse(Protocol[ClaimT]):
    """What a flow needs of a warehouse; `workbench.warehouse.offsets` implements it."""

    def prepare(self, rows: pa.Schema, dead_letters: pa.Schema) -> None:
        """Make the tables when they are not there. Raises WarehouseError when they do not fit."""

    def claim(self, cluster_id: str, topic_id: str, first_offsets: Mapping[int, int]) -> tuple[ClaimT, ...]:
        """Become the owner of the partitions; one that is new begins at its first offset.

        Raises WarehouseError when the offsets that are stored belong to another cluster, or to
        a topic of the same name that is no more.
        """

    def commit(
        self, claims: Sequence[ClaimT], next_offsets: Mapping[int, int], rows: pa.Table, dead_letters: pa.Table
    ) -> tuple[ClaimT, ...]:
        """Write all in one transaction and return the claims to go on with.

        Raises WarehouseError, with nothing written, when somebody else owns a partition.
        """


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What a run of a flow did."""

    rows: int
    dead: int
    seconds: float


def run_flow(
    connection: KafkaConnection,
    topic: str,
    schema: pa.Schema,
    warehouse: Warehouse[ClaimT],
    *,
    batch_records: int = BATCH_RECORDS,
    progress: Callable[[int], object] = lambda _: None,
) -> Ingested:
    """Bring everything that *topic* holds now into the warehouse, each record exactly once.

    Args:
        connection: the cluster.
        topic: the topic to read, in all its partitions.
        schema: the columns to take out of the JSON records.
        warehouse: where rows, dead letters and offsets go.
        batch_records: records of one transaction.
        progress: called with the number of records committed since the last call.

    Raises:
        KafkaError: when the cluster does not answer, or no longer has the records.
        WarehouseError: when the warehouse refuses, or somebody else has taken over.
    """
    started = time.monotonic()
    state = read_topic_state(connection, topic)
    columns = pa.schema([*schema, *ORIGIN])
    warehouse.prepare(columns, DEAD_LETTERS)
    claims = warehouse.claim(state.cluster_id, state.topic_id, state.first_offsets)
    decoder = JsonDecoder(schema)
    rows = dead = 0
    with PartitionReader(
        connection, topic, {claim.partition: claim.next_offset for claim in claims}, batch_records
    ) as reader:
        for batch in reader.batches():
            decoded = decoder.decode([record.value() for record in batch.records])
            letters = dead_letters(topic, batch, decoded)
            claims = warehouse.commit(claims, batch.next_offsets, with_origin(columns, batch, decoded), letters)
            rows, dead = rows + decoded.rows.num_rows, dead + letters.num_rows
            progress(len(batch.records))
    return Ingested(rows=rows, dead=dead, seconds=time.monotonic() - started)


def with_origin(columns: pa.Schema, batch: Batch, decoded: Decoded) -> pa.Table:
    """The decoded rows with the partition and offset of each."""
    records = [batch.records[position] for position in decoded.positions]
    origin = [
        pa.array([record.partition() for record in records], pa.int32()),
        pa.array([record.offset() for record in records], pa.int64()),
    ]
    return pa.Table.from_arrays([*decoded.rows.columns, *origin], schema=columns)


def dead_letters(topic: str, batch: Batch, decoded: Decoded) -> pa.Table:
    """The records that could not be decoded: their bytes, their coordinates, the reason."""
    return pa.Table.from_pylist(
        [_letter(topic, batch.records[each.position], each.reason) for each in decoded.undecodable], schema=DEAD_LETTERS
    )


def _letter(topic: str, record: Any, reason: str) -> dict[str, Any]:
    kind, milliseconds = record.timestamp()
    return {
        "topic": topic,
        "record_partition": record.partition(),
        "record_offset": record.offset(),
        # Kind 0 is "no timestamp"; a producer may write anything, SQL has an end.
        "record_timestamp": milliseconds * 1000 if kind and 0 <= milliseconds <= LAST_MILLISECOND else None,
        "record_key": record.key(),
        "record_value": record.value(),
        "reason": reason,
    }
