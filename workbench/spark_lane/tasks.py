"""What runs on the executors: read a partition, decode it, and commit its records with their offsets.

A task is the Arrow lane over one partition: Kafka's C client, Arrow, COPY, in three threads. Spark
says where it runs, and runs it again elsewhere when it is lost. Rows do not go through the JVM:
its Kafka source and the way from there to Python took most of the time. (Flows with steps do go
that way, `stepped.py`: their steps are Spark's.)

A task that Spark runs twice writes once: the ledger says how far the partition has come, and a
transaction that does not go on from there changes nothing. A task of a driver that was taken for
dead has an old epoch, and writes nothing either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from workbench.errors import (
    KafkaError,
    KafkaUnavailable,
    StepRefused,
    TakenOver,
    WarehouseError,
    WarehouseUnavailable,
    WorkbenchError,
)
from workbench.ingestion.batch import Batch, BatchLimits, Commit
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.decoding import Decoder
from workbench.ingestion.flow import count
from workbench.ingestion.loads import LoadBuilder
from workbench.ingestion.pipeline import Pipeline
from workbench.ingestion.source import SILENCE_SECONDS, Source
from workbench.loading import Claim, Load, Span, Warehouse

REPORT = pa.schema([
    *(pa.field(name, pa.int64()) for name in ("records", "rows", "dead", "size_bytes", "first_timestamp", "filtered")),
    pa.field("seconds", pa.float64()),
    *(pa.field(name, pa.string()) for name in ("error", "message", "remedy")),
])  # fmt: skip
REPORT_DDL = (
    "records long, rows long, dead long, size_bytes long, first_timestamp long, filtered long, "
    "seconds double, error string, message string, remedy string"
)

KNOWN: Mapping[str, type[WorkbenchError]] = {
    kind.__name__: kind
    for kind in (TakenOver, WarehouseUnavailable, WarehouseError, KafkaUnavailable, KafkaError, StepRefused)
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """Everything that the tasks of a round need. It travels to the executors, passwords included."""

    connection: KafkaConnection
    topic: str
    group: str
    spans: tuple[Span, ...]  #: of the round; a task has the number of one
    open_warehouse: Callable[[], Warehouse]
    make_decoder: Callable[[pa.Schema], Decoder]
    loads: LoadBuilder
    table: pa.Schema  #: columns of the table
    limits: BatchLimits
    outage_seconds: float

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Bring the spans whose numbers are in column 0; a row of `REPORT` for each commit (`DataFrame.mapInArrow`).

        An error of ours is the last row: as an exception it would be the text of a traceback.
        """
        try:
            for batch in batches:
                for number in batch.column(0).to_pylist():
                    yield from self._bring(self.spans[number])
        except WorkbenchError as error:
            yield report_error(error)

    def _bring(self, span: Span) -> Iterator[pa.RecordBatch]:
        """Bring one span, from where the ledger is; what an earlier try has committed is there already."""
        with self.open_warehouse() as warehouse:
            start = next(each.next_offset for each in warehouse.progress() if each.partition == span.partition)
            if start < span.end:
                done = _Partition(self, Claim(span.partition, start, span.epoch), span.end).bring(warehouse)
                yield from (report(**vars(commit)) for commit in done)


class _Partition:
    """One partition on its way into the warehouse."""

    def __init__(self, work: Work, claim: Claim, end: int) -> None:
        self._work = work
        self._claim = claim
        self._end = end
        self._pipeline: Pipeline
        self._source: Source
        self._commits: list[Commit] = []

    def bring(self, warehouse: Warehouse) -> Sequence[Commit]:
        work = self._work
        self._pipeline = Pipeline(
            work.make_decoder(work.table),
            work.loads,
            warehouse,
            outage_seconds=work.outage_seconds,
            committed=self._committed,
        )
        self._pipeline.run(self._open, self._read)
        return self._commits

    def _open(self) -> Source:
        work = self._work
        self._source = Source(
            work.connection,
            work.topic,
            group=work.group,
            limits=work.limits,
            claim=lambda _: [self._claim],
            settle=self._pipeline.settle,
        )
        return self._source

    def _read(self, source: Source) -> None:
        source.assign([self._claim.partition])
        heard = time.monotonic()
        while not self._pipeline.stopped and source.positions[self._claim.partition] < self._end:
            if source.poll():
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS:
                raise self._work.connection.explain(f"no record of {self._work.topic} within {SILENCE_SECONDS:.0f} s")
            if source.is_complete():
                self._pipeline.offer(source)
                heard = time.monotonic()  # waiting for the warehouse is no silence of the brokers

    def _committed(self, load: Load, batch: Batch, seconds: float) -> None:
        self._source.mirror(load.spans)
        self._commits.append(count(load, batch, seconds))


def wait(seconds: float) -> bool:
    """Wait; a task is always worth going on."""
    time.sleep(seconds)
    return False


def report_error(error: WorkbenchError) -> pa.RecordBatch:
    """A row of `REPORT` for what ended a task, by the first of its classes that `met` knows."""
    names = (kind.__name__ for kind in type(error).__mro__)
    name = next((name for name in names if name in KNOWN), WarehouseError.__name__)
    return report(error=name, message=error.message, remedy=error.remedy)


def met(row: Mapping[str, Any]) -> WorkbenchError:
    """The error of such a row, as it was there."""
    return KNOWN[row["error"]](row["message"], remedy=row["remedy"] or "")


def report(**values: object) -> pa.RecordBatch:
    """A row of `REPORT`; what is not given is null."""
    return pa.RecordBatch.from_pylist([values], schema=REPORT)
