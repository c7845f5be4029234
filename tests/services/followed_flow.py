"""A flow between servers of a test's own that a process follows, and the proof of what it has written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.services.postgres_server import OwnPostgres
from tests.services.three_brokers import Brokers
from tests.services.workbench import ROOT, environment, wait_until
from workbench.errors import WorkbenchError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import Flow, make_flow
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.inspection import lag_of_flows, verify_flow
from workbench.settings import Settings

PARTITIONS = 3
PROGRAM = """\
import logging, sys
from workbench.ingestion.batch import BatchLimits
from workbench.flows import follow_flow
from workbench.ingestion.definition import make_flow
from workbench.errors import WorkbenchError
from workbench.settings import Settings
logging.basicConfig(level=logging.WARNING)
flow = make_flow("followed", {fields!r})
limits = BatchLimits(records=500, age_seconds=0.2, session_seconds=3.0)
try:
    follow_flow(Settings.load(), flow, lambda count: print(count, flush=True), limits=limits)
except WorkbenchError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
"""


@dataclass(frozen=True)
class Follower:
    """A process that follows a flow: prints a line for each commit, and warnings on stderr."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def commits(self) -> int:
        return self.out.read_bytes().count(b"\n")

    @property
    def said(self) -> str:
        return self.err.read_text()

    def wait_for_commits(self, more: int, seconds: float = 60) -> None:
        """Wait until it has committed *more* times from now on."""
        goal = self.commits + more
        wait_until(
            lambda: self.commits >= goal or self.process.poll() is not None, seconds, f"{more} commits\n{self.said}"
        )
        assert self.process.poll() is None, self.said


@dataclass(frozen=True)
class Scene:
    """Brokers, a warehouse, and a new topic with its flow."""

    brokers: Brokers
    postgres: OwnPostgres
    home: Path
    variables: dict[str, str]  #: of the workbench, that lead to both
    settings: Settings
    fields: dict[str, object]  #: of the flow

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection.from_settings(self.settings.kafka)

    @property
    def flow(self) -> Flow:
        return make_flow("followed", self.fields)

    @property
    def topic(self) -> str:
        return self.flow.topic

    def send(self, values: Sequence[bytes]) -> int:
        """Send records to all partitions in turn; how many were acknowledged."""
        return produce(self.connection, self.topic, outgoing(values))

    @contextmanager
    def following(self) -> Iterator[Follower]:
        """Follow the flow until the end of the block."""
        out, err = self.home / "follower.out", self.home / "follower.err"
        with out.open("wb") as output, err.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(fields=self.fields)],
                env=environment(self.home, **self.variables), stdout=output, stderr=errors, cwd=ROOT,
            )  # fmt: skip
        try:
            yield Follower(process, out, err)
        finally:
            process.kill()
            process.wait(20)

    def wait_until_caught_up(self, follower: Follower, seconds: float = 60) -> None:
        """Wait until the warehouse has all offsets."""
        wait_until(
            lambda: self._lag() == 0 or follower.process.poll() is not None, seconds, f"the flow\n{follower.said}"
        )
        assert follower.process.poll() is None, follower.said

    def assert_right(self, rows: int) -> None:
        """Every record is there once, and there are *rows*, none of them a dead letter."""
        reports = verify_flow(self.settings, self.flow)
        assert len(reports) == PARTITIONS
        assert not any(each.missing or each.doubled or each.outside or each.unknown for each in reports), reports
        assert sum(each.dead for each in reports) == 0, reports
        assert sum(each.rows for each in reports) == rows, reports
        assert self.postgres.ask(f"SELECT count(*), count(DISTINCT n) FROM {self.flow.into}") == [(rows, rows)]

    def _lag(self) -> int:
        """Offsets that the warehouse lacks; -1 while something does not answer, or nothing was claimed."""
        try:
            found = [each for _, _, lags in lag_of_flows(self.settings, self.flow) for each in lags]
        except WorkbenchError:
            return -1
        return sum(each.records for each in found) if found else -1


def make_scene(brokers: Brokers, postgres: OwnPostgres, home: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A new topic and a flow that adds columns as they come; its files go to *home*."""
    variables = brokers.variables() | postgres.variables()
    for name, value in {**variables, "WORKBENCH_HOME": str(home)}.items():
        monkeypatch.setenv(name, value)
    fields: dict[str, object] = {
        "topic": f"t-{uuid4().hex}",
        "into": f"s_{uuid4().hex}.rows",
        "columns": {"n": "int64", "text": "string"},
        "contract": "evolve",
    }
    scene = Scene(brokers, postgres, home, variables, Settings.load(), fields)
    brokers.wait_until_answering(scene.connection)
    apply_topics(scene.connection, [Topic(name=scene.topic, partitions=PARTITIONS)])
    return scene


def numbered(start: int, count: int, *, width: int = 10) -> list[bytes]:
    """Records with their number, and a text of *width*."""
    return [b'{"n":%d,"text":"%s"}' % (number, b"x" * width) for number in range(start, start + count)]


def outgoing(values: Sequence[bytes]) -> Iterator[OutgoingRecord]:
    """The values, to all partitions in turn."""
    return (OutgoingRecord(value, partition=number % PARTITIONS) for number, value in enumerate(values))
