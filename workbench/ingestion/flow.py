"""A flow moves a topic into a table: the rows, the dead letters and the next offsets are one transaction.

The warehouse holds the truth about offsets. A worker claims its partitions there, which raises
their epoch; a commit names the epoch and the offset that it goes on from, and changes nothing
when either is no longer so. Killed at any instant, a flow goes on from the last commit: no
record is lost, none is written twice, and a worker that was believed dead cannot write.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from workbench.errors import KafkaError, KafkaUnavailable, TakenOver, WarehouseUnavailable
from workbench.ingestion.batch import Batch, BatchLimits, Commit
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.watermarks import TopicState, offsets_at, read_topic_state, refuse_cut_off
from workbench.ingestion.decoding import Decoder
from workbench.ingestion.freshness import Freshness
from workbench.ingestion.loads import LoadBuilder
from workbench.ingestion.pipeline import Pipeline
from workbench.ingestion.source import SILENCE_SECONDS, Source
from workbench.ingestion.stalled import Stalled
from workbench.loading import Claim, Load, Warehouse
from workbench.observability import metrics

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
OUTAGE_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What a run of a flow did."""

    rows: int
    dead: int
    seconds: float
    filtered: int = 0  #: records that the flow's own steps left out


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that a run of a flow needs.

    The warehouse is entered. `settle` is called when a session begins, before anything is written, and
    may refuse it with WarehouseError. `committed` is called after each commit.
    """

    connection: KafkaConnection
    topic: str
    group: str  #: consumer group, for sharing the topic and for the mirrored offsets
    start: str | datetime  #: where a flow that never ran begins: earliest, latest, fail, or a time
    columns: pa.Schema  #: what the flow declares
    warehouse: Warehouse
    loads: LoadBuilder
    make_decoder: Callable[[pa.Schema], Decoder]  #: for the columns of the table
    limits: BatchLimits
    settle: Callable[[], object] = lambda: None
    committed: Callable[[Commit], object] = lambda _: None


def run_to_end(run: Run) -> Ingested:
    """Bring everything that the topic holds now into the warehouse, each record exactly once.

    Raises:
        KafkaError: when the cluster does not answer, or no longer has the records.
        WarehouseError: when the warehouse refuses, does not answer for a minute, or somebody
            else has taken over.
    """
    session = _Session(run, OUTAGE_SECONDS)
    session.run(session.read_to_end)
    return session.result


def run_for_ever(run: Run) -> None:
    """Bring what arrives into the warehouse, shared with the other workers of the group, until interrupted.

    Outages of the cluster and of the warehouse, and partitions that go to another worker, are
    waited for: everything is built anew from what the warehouse says.

    Raises:
        KafkaError: when the cluster refuses us, or no longer has the records.
        WarehouseError: when the warehouse refuses.
    """
    wait = 1.0
    # A worker that never gets to commit anything is as old as it runs.
    metrics.COMPLETE.labels(run.topic, run.loads.target.table).set_to_current_time()
    while True:
        session = _Session(run, float("inf"))
        started = time.monotonic()
        try:
            session.run(session.read_for_ever)
        except (KafkaUnavailable, WarehouseUnavailable, TakenOver) as error:
            wait = 1.0 if time.monotonic() - started > 60 else min(wait * 2, LONGEST_WAIT_SECONDS)
            cause = type(error).__name__
            metrics.RESTARTS.labels(run.topic, run.loads.target.table, cause).inc()
            logger.warning("%s; beginning again in %.0f s", error.message, wait)
            time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads workers that failed together


class _Session:
    """One life of the consumer, with what it was told at its beginning."""

    def __init__(self, run: Run, outage_seconds: float) -> None:
        self._run = run
        self._outage_seconds = outage_seconds
        self._pipeline: Pipeline
        self._source: Source
        self._state: TopicState
        self._first: Mapping[int, int]
        self._seen: Mapping[int, int] = {}  # positions at the last look, unless records came since
        self._freshness = Freshness()
        self._rows = self._dead = 0
        self._started = time.monotonic()

    @property
    def result(self) -> Ingested:
        return Ingested(rows=self._rows, dead=self._dead, seconds=time.monotonic() - self._started)

    def run(self, read: Callable[[Source], None]) -> None:
        run = self._run
        run.settle()
        columns = run.warehouse.prepare(run.loads.columns(run.columns))
        self._state = read_topic_state(run.connection, run.topic)
        self._first = first_offsets(run, self._state)
        if not run.warehouse.progress():
            # Where a flow begins is settled once, for all partitions: not by whoever reads one first.
            self._claim(sorted(self._first))
        self._pipeline = Pipeline(
            run.make_decoder(columns),
            run.loads,
            run.warehouse,
            outage_seconds=self._outage_seconds,
            committed=self._committed,
        )
        self._pipeline.run(self._open, read)

    def read_to_end(self, source: Source) -> None:
        ends = self._state.next_offsets
        source.assign(sorted(ends))
        heard = time.monotonic()
        while not self._pipeline.stopped and any(source.positions[each] < end for each, end in ends.items()):
            if source.poll():
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS:
                raise self._run.connection.explain(f"no record of {self._run.topic} within {SILENCE_SECONDS:.0f} s")
            if source.is_complete():
                self._pipeline.offer(source)
                heard = time.monotonic()  # waiting for the warehouse is no silence of the brokers

    def read_for_ever(self, source: Source) -> None:
        source.subscribe()
        looked = time.monotonic()
        while not self._pipeline.stopped:
            source.poll()
            if source.is_complete() and self._pipeline.offer(source):
                self._seen = {}  # reading rested, so that no record could come
            if time.monotonic() - looked > LOOK_SECONDS:
                self._look(source)
                looked = time.monotonic()

    def _look(self, source: Source) -> None:
        """See that the topic is still the same, and that records that are there have come since the last look.

        The cluster is asked by a client of its own: the one that reads may be what is stuck.
        """
        now, state = time.time(), self._same_topic()
        positions = dict(source.positions)
        self._refuse_cut_off(positions, state)
        behind = {each: state.next_offsets.get(each, 0) - position for each, position in positions.items()}
        behind = {each: count for each, count in behind.items() if count > 0}
        labels = (self._run.topic, self._run.loads.target.table)
        metrics.WAITING_RECORDS.labels(*labels).set(sum(behind.values()))
        if (fresh := self._complete_since(now, state, positions)) is not None:
            metrics.COMPLETE.labels(*labels).set(fresh)
        stuck = {each: count for each, count in behind.items() if self._seen.get(each) == positions[each]}
        self._seen = positions
        if stuck:
            told = ", ".join(f"{count} in partition {each}" for each, count in sorted(stuck.items()))
            raise Stalled(f"{self._run.topic} has records that have not come for {LOOK_SECONDS:.0f} s: {told}")

    def _complete_since(self, now: float, state: TopicState, ours: Iterable[int]) -> float | None:
        ends = {each: state.next_offsets.get(each, 0) for each in ours}
        if not ends:
            # Other workers have all partitions, or nobody has: the warehouse knows.
            self._freshness.told(self._run.warehouse.progress())
            ends = {each: end for each, end in state.next_offsets.items() if end > state.first_offsets.get(each, 0)}
        return self._freshness.look(now, ends)

    def _same_topic(self) -> TopicState:
        """The topic as it is now; raises Stalled when it is another than the session began with."""
        state = read_topic_state(self._run.connection, self._run.topic)
        if (state.cluster_id, state.topic_id) != (self._state.cluster_id, self._state.topic_id):
            raise Stalled(f"{self._run.topic} was made anew while it was read")
        return state

    def _refuse_cut_off(self, next_offsets: Mapping[int, int], state: TopicState) -> None:
        refuse_cut_off(self._run.connection, self._run.topic, next_offsets, state.next_offsets)

    def _open(self) -> Source:
        run = self._run
        self._source = Source(
            run.connection,
            run.topic,
            group=run.group,
            limits=run.limits,
            claim=self._claim,
            settle=self._pipeline.settle,
        )
        return self._source

    def _claim(self, partitions: Sequence[int]) -> Sequence[Claim]:
        if unknown := set(partitions) - self._first.keys():
            # The topic has grown since the session began: nothing of these partitions was read.
            state = read_topic_state(self._run.connection, self._run.topic)
            if late := unknown - state.first_offsets.keys():
                raise KafkaUnavailable(f"a broker does not know yet of partitions {sorted(late)} of {self._run.topic}")
            self._first = {**self._first, **{each: state.first_offsets[each] for each in unknown}}
        wanted = {each: self._first[each] for each in partitions}
        claims = self._run.warehouse.claim(self._state.cluster_id, self._state.topic_id, wanted)
        positions = {each.partition: each.next_offset for each in claims}
        if any(offset > self._state.next_offsets.get(each, 0) for each, offset in positions.items()):
            # Others have read on since; or the topic was made anew, and its end says nothing of what was read.
            self._refuse_cut_off(positions, self._same_topic())
        self._freshness.told(claims)
        return claims

    def _committed(self, load: Load, batch: Batch, seconds: float) -> None:
        self._rows += load.rows.num_rows
        self._dead += load.dead_letters.num_rows
        self._source.mirror(load.spans)
        self._freshness.committed(load.spans)
        self._run.committed(count(load, batch, seconds))


def count(load: Load, batch: Batch, seconds: float) -> Commit:
    """What the commit of a load has written, in numbers."""
    kind, milliseconds = batch.messages[0].timestamp() if batch.messages else (0, 0)
    return Commit(
        records=len(batch.messages),
        rows=load.rows.num_rows,
        dead=load.dead_letters.num_rows,
        size_bytes=batch.size_bytes,
        seconds=seconds,
        first_timestamp=milliseconds if kind else None,
        filtered=load.filtered.num_rows if load.filtered is not None else 0,
    )


def first_offsets(run: Run, state: TopicState) -> Mapping[int, int]:
    """Where each partition begins that the warehouse has no offset of.

    A flow that has run before reads new partitions from their first record on: they came while
    it was looking, or had no time to look.

    Raises:
        KafkaError: when the flow never ran and may not begin by itself.
    """
    if run.start == "earliest" or run.warehouse.progress():
        return state.first_offsets
    if run.start == "latest":
        return state.next_offsets
    if isinstance(run.start, datetime):
        milliseconds = int(run.start.timestamp() * 1000)
        return offsets_at(run.connection, run.topic, sorted(state.next_offsets), milliseconds)
    raise KafkaError(
        f"the flow from {run.topic} has no offsets in the warehouse, and its `start` is {run.start!r}",
        remedy="Set `start` to earliest, latest or a time for the first run.",
    )
