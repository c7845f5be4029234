"""The driver of the lane: round after round from where the ledger is to where the topic ends.

There is no checkpoint. The ledger is claimed, which raises the epoch of every partition; each
round is one Spark job over known offsets, whose tasks commit by themselves; after it, and after
every failure, the next round begins where the ledger says.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import pyarrow as pa

from workbench.errors import (
    KafkaUnavailable,
    SparkError,
    StepRefused,
    TakenOver,
    WarehouseUnavailable,
)
from workbench.ingestion.batch import Commit
from workbench.ingestion.cluster.watermarks import TopicState, read_topic_state, refuse_cut_off
from workbench.ingestion.flow import Ingested, Run, first_offsets
from workbench.loading import DEAD_LETTERS, Load, Span, Warehouse
from workbench.observability import metrics
from workbench.spark_lane.ranges import Round, plan_round, refuse_lost_records
from workbench.spark_lane.stepped import PIECE_BYTES, CommitPieces, Decode, stepped
from workbench.spark_lane.tasks import REPORT_DDL, Work, met
from workbench.transformation.failures import reported_spark
from workbench.transformation.row_wise import Step, output_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

logger = logging.getLogger(__name__)

ROUND_RECORDS = 500_000  # of one partition
TRIES = 4  # of a job, while nothing goes forward
OUTAGE_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 15.0
LOOK_SECONDS = 1.0
REMEDY = "See the log of the Spark server. Nothing is lost: the next run goes on from the last commit."


@dataclass(frozen=True, kw_only=True)
class SparkRun:
    """A run of a flow whose records Spark brings."""

    run: Run
    #: gives what every task of a round calls, while the context is open
    lend_warehouse: Callable[[], AbstractContextManager[Callable[[], Warehouse]]]
    open_session: Callable[[], SparkSession]
    round_records: int = ROUND_RECORDS
    steps: tuple[Step, ...] = ()  #: between decoding and writing, each row by itself


def run_to_end(spark_run: SparkRun) -> Ingested:
    """Bring everything that the topic holds now into the warehouse, each record exactly once.

    Raises:
        KafkaError: when the cluster does not answer, or no longer has the records.
        WarehouseError: when the warehouse refuses, or somebody else has taken over.
        SparkError: when there is no Spark, or it fails again and again.
    """
    started = time.monotonic()
    driver = Driver(spark_run)
    driver.begin()
    ends = dict(driver.state.next_offsets)
    while driver.advance(ends):
        pass
    seconds = time.monotonic() - started
    return Ingested(rows=driver.rows, dead=driver.dead, seconds=seconds, filtered=driver.filtered)


def run_for_ever(spark_run: SparkRun) -> None:
    """Bring what arrives into the warehouse, until interrupted. Outages are waited for.

    Raises:
        KafkaError: when the cluster refuses us, or no longer has the records.
        WarehouseError: when the warehouse refuses, or another driver has taken over.
    """
    wait = 1.0
    while True:
        started = time.monotonic()
        try:
            driver = Driver(spark_run)
            driver.begin()
            while True:
                if not driver.advance(driver.look().next_offsets):
                    time.sleep(LOOK_SECONDS)
        except (KafkaUnavailable, WarehouseUnavailable, SparkError) as error:
            wait = 1.0 if time.monotonic() - started > 60 else min(wait * 2, LONGEST_WAIT_SECONDS)
            metrics.RESTARTS.labels(spark_run.run.topic, spark_run.run.loads.target.table, type(error).__name__).inc()
            logger.warning("%s; beginning again in %.0f s", error.message, wait)
            time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads drivers that failed together


class Driver:
    """One owner of the partitions, from its claim to its end."""

    def __init__(self, spark_run: SparkRun) -> None:
        self.rows = self.dead = self.filtered = 0
        self.state: TopicState
        self._lane = spark_run
        self._run = spark_run.run
        self._session: SparkSession | None = None
        self._table: pa.Schema
        self._columns: pa.Schema  # of what is written
        self._epochs: dict[int, int] = {}
        self._failures = 0

    def begin(self) -> None:
        """Make the tables and become the owner of all partitions."""
        run = self._run
        run.settle()
        self._columns = self._output_columns() if self._lane.steps else run.loads.columns(run.columns)
        self._table = run.warehouse.prepare(self._columns)
        self.state = read_topic_state(run.connection, run.topic)
        self._claim(first_offsets(run, self.state))

    def look(self) -> TopicState:
        """Ask the cluster how far the topic is now; partitions that are new are claimed.

        Raises:
            WarehouseError: when the topic was made anew.
        """
        run, before = self._run, self.state
        self.state = state = read_topic_state(run.connection, run.topic)
        # Of a topic that was made anew no partition is ours: the claim says so.
        is_same = (state.cluster_id, state.topic_id) == (before.cluster_id, before.topic_id)
        known = self._epochs if is_same else {}
        if new := {each: first for each, first in state.first_offsets.items() if each not in known}:
            self._claim(new)
        return state

    def advance(self, ends: Mapping[int, int]) -> bool:
        """Bring one round; whether there was anything to bring."""
        run = self._run
        positions = self._positions()
        refuse_lost_records(run.topic, positions, self.state.first_offsets)
        starts = {each: start for each, (start, _) in positions.items()}
        refuse_cut_off(run.connection, run.topic, starts, self.state.next_offsets)
        work = plan_round(run.topic, positions, ends, most=self._lane.round_records)
        if work is None:
            return False
        try:
            self._bring(work)
        except TakenOver:
            # Spark runs a task again as soon as its process is gone; what that one had sent may be committed a moment
            # later, under the second try. Where the ledger is then, the next round begins.
            if not self._is_owner():
                raise
            return True
        except SparkError as error:
            self._session = None
            self._failures = self._failures + 1 if self._positions() == positions else 1
            if self._failures >= TRIES:
                raise
            logger.warning("%s; trying again", error.message)
            time.sleep(min(2.0**self._failures, LONGEST_WAIT_SECONDS))
            # Tasks of the job that has failed may still run: with a new epoch they write nothing more.
            self._claim(dict.fromkeys(self._epochs, 0))
            return True
        self._failures = 0
        self._close(work)
        return True

    def _claim(self, firsts: Mapping[int, int]) -> None:
        claims = self._run.warehouse.claim(self.state.cluster_id, self.state.topic_id, firsts)
        self._epochs |= {claim.partition: claim.epoch for claim in claims}

    def _positions(self) -> dict[int, tuple[int, int]]:
        stored = {each.partition: each.next_offset for each in self._run.warehouse.progress()}
        return {partition: (stored[partition], epoch) for partition, epoch in self._epochs.items()}

    def _is_owner(self) -> bool:
        """Whether nobody else has claimed a partition since we did."""
        return all(
            each.epoch == self._epochs.get(each.partition, each.epoch) for each in self._run.warehouse.progress()
        )

    def _bring(self, work: Round) -> None:
        """Run the job of one round.

        Raises:
            WorkbenchError: what a task has met.
            SparkError: when Spark itself has failed.
        """
        for report in self._job(work).to_pylist():
            if report["error"]:
                raise met(report)
            names = ("records", "rows", "dead", "size_bytes", "seconds", "first_timestamp", "filtered")
            commit = Commit(**{name: report[name] for name in names})
            self.rows += commit.rows
            self.dead += commit.dead
            self.filtered += commit.filtered
            self._run.committed(commit)

    def _job(self, work: Round) -> pa.Table:
        run = self._run
        self._session = session = self._session or self._lane.open_session()
        tag = f"workbench-{uuid4().hex}"
        session.addTag(tag)
        failed = reported_spark(f"Spark has failed to bring {run.topic}", remedy=REMEDY)
        try:
            with self._lane.lend_warehouse() as open_warehouse, failed:
                return cast("pa.Table", self._reports(session, work, open_warehouse).toArrow())
        except KeyboardInterrupt:
            session.interruptTag(tag)
            raise
        finally:
            session.removeTag(tag)

    def _reports(self, session: SparkSession, work: Round, open_warehouse: Callable[[], Warehouse]) -> DataFrame:
        """The reports of the tasks of a round, one task a partition."""
        run, lane, count = self._run, self._lane, len(work.spans)
        if not lane.steps:
            task = Work(
                connection=run.connection,
                topic=run.topic,
                group=run.group,
                spans=work.spans,
                open_warehouse=open_warehouse,
                make_decoder=run.make_decoder,
                loads=run.loads,
                table=self._table,
                limits=run.limits,
                outage_seconds=OUTAGE_SECONDS,
            )
            return session.range(0, count, 1, count).mapInArrow(task, REPORT_DDL)
        options = {**run.connection.for_spark(), **work.source_options()}
        records = session.read.format("kafka").options(**options).load().drop("topic")
        limits = replace(run.limits, size_bytes=min(run.limits.size_bytes, PIECE_BYTES))
        decode = Decode(make_decoder=run.make_decoder, loads=run.loads, columns=run.columns, limits=limits)
        write = CommitPieces(
            open_warehouse=open_warehouse,
            make_decoder=run.make_decoder,
            columns=run.columns,
            # What `include` asks for went through the steps, which may also have made the key.
            loads=replace(run.loads, include=(), key_columns=self._key_columns()),
            rows=self._columns,
            epochs=self._epochs,
            outage_seconds=OUTAGE_SECONDS,
        )
        return stepped(records, lane.steps, decode, count).mapInArrow(write, REPORT_DDL)

    def _key_columns(self) -> pa.Schema:
        key = self._run.loads.target.key
        if missing := [name for name in key if name not in self._columns.names]:
            raise StepRefused(f"the steps drop {', '.join(missing)}, which key names", remedy="Keep these columns.")
        return pa.schema([self._columns.field(name) for name in key])

    def _output_columns(self) -> pa.Schema:
        run = self._run
        self._session = session = self._session or self._lane.open_session()
        with reported_spark(f"Spark has failed to plan the steps of {run.topic}", remedy=REMEDY):
            return output_columns(session, run.loads.columns(run.columns), self._lane.steps)

    def _close(self, work: Round) -> None:
        """Move the offsets over what is no record: markers of transactions, and what compaction has removed."""
        positions = self._positions()
        rest = tuple(
            Span(span.partition, positions[span.partition][0], span.end, span.epoch)
            for span in work.spans
            if positions[span.partition][0] < span.end
        )
        if rest:
            run = self._run
            nothing = self._table.empty_table()
            run.warehouse.commit(Load(spans=rest, rows=nothing, dead_letters=DEAD_LETTERS.empty_table()))
