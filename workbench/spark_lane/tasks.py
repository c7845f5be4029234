"""What runs on the executors: decode a partition's records, and commit them with their offsets.

A task that Spark runs twice writes once: the ledger says how far the partition has come, and a
transaction that does not go on from there changes nothing. A task of a driver that was taken for
dead has an old epoch, and writes nothing either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from workbench.errors import WorkbenchError
from workbench.ingestion.batch import Limits
from workbench.ingestion.committing import Decoding, commit
from workbench.ingestion.decoding import Decoder
from workbench.ingestion.flow import count
from workbench.ingestion.loads import LoadBuilder
from workbench.ingestion.pipeline import rare_collections
from workbench.loading import Warehouse
from workbench.spark_lane.records import make_batch, pieces

REPORT = pa.schema([
    *(pa.field(name, pa.int64()) for name in ("records", "rows", "dead", "size_bytes", "first_timestamp")),
    pa.field("seconds", pa.float64()),
    *(pa.field(name, pa.string()) for name in ("error", "message", "remedy")),
])  # fmt: skip
REPORT_DDL = (
    "records long, rows long, dead long, size_bytes long, first_timestamp long, "
    "seconds double, error string, message string, remedy string"
)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Everything that a task needs. It travels to the executors, with the passwords of warehouse and registry in it."""

    open_warehouse: Callable[[], Warehouse]
    make_decoder: Callable[[pa.Schema], Decoder]
    loads: LoadBuilder
    table: pa.Schema  #: columns of the table
    epochs: Mapping[int, int]  #: of the claims, by partition
    limits: Limits
    outage_seconds: float

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Commit the records of one task; a row of `REPORT` for each commit (`DataFrame.mapInArrow`).

        An error of ours is the last row: as an exception it would be the text of a traceback.
        """
        try:
            with rare_collections():
                yield from self._commits(batches)
        except WorkbenchError as error:
            yield _report(error=type(error).__name__, message=error.message, remedy=error.remedy)

    def _commits(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        decoder = self.make_decoder(self.table)
        with self.open_warehouse() as warehouse:
            positions: dict[int, int] = {}
            for table in pieces(batches, self.limits):
                # What an earlier try of this task has committed is there already.
                positions = positions or {each.partition: each.next_offset for each in warehouse.progress()}
                batch = make_batch(table, positions, self.epochs)
                if not batch.messages:
                    continue
                decoded = decoder.decode(batch.values)
                work = Decoding(batch, decoded, self.loads.build(batch, decoded))
                started = time.monotonic()
                load = commit(work, warehouse, self.loads, outage_seconds=self.outage_seconds, wait=_wait)
                if load is not None:
                    yield _report(**vars(count(load, batch, time.monotonic() - started)))


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _report(**values: object) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([values], schema=REPORT)
