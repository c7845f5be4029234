"""Flows that workers keep running, between a real broker and a real database, whatever is killed: each record once."""

from __future__ import annotations

import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psutil
import pytest
import yaml

from pipelines import acting
from pipelines.runner.flows.files import FlowFiles
from pipelines.store.flows.listing import read_flow_row
from pipelines.store.records import LEASE_SECONDS
from tests.services.pipelines_project import Site, running_site
from tests.services.process_tree import arguments, process_tree
from tests.services.three_brokers import Brokers, running_brokers
from tests.services.workbench import STARTED_SECONDS, wait_until
from workbench.errors import NoSuchRun, StoreUnavailable
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.settings import Settings

UP_SECONDS = STARTED_SECONDS
LOOK_SECONDS = 10.0  # a worker looks each second; with other tests on the same processors it may come late


@dataclass
class Flow:
    """A flow of the site, with a topic of its own."""

    site: Site
    brokers: Brokers
    connection: KafkaConnection
    name: str
    fields: dict[str, Any]
    sent: int = 0

    def write(self, **more: Any) -> None:
        self.site.file(f"pipelines/flows/{self.name}.yaml", yaml.safe_dump({**self.fields, **more}))

    def send(self, count: int) -> None:
        values = range(self.sent, self.sent + count)
        produce(self.connection, self.fields["topic"], [OutgoingRecord(b'{"n":%d}' % n) for n in values])
        self.sent += count

    def wait_for_rows(self, seconds: float = UP_SECONDS) -> None:
        """Wait until every record that was sent is in the table; none is there twice."""
        table = self.fields["into"]

        def counted() -> tuple[object, ...]:
            try:
                if self.site.ask(f"SELECT to_regclass('{table}')") == [(None,)]:
                    return (0, 0)
                return self.site.ask(f"SELECT count(*), count(DISTINCT n) FROM {table}")[0]
            except StoreUnavailable:
                return (0, 0)

        wait_until(lambda: counted()[1] == self.sent, seconds, f"{self.sent} rows: {self.told}")
        assert counted() == (self.sent, self.sent)

    @property
    def row(self) -> dict[str, Any]:
        with self.site.store.transaction() as connection:
            found = read_flow_row(connection, self.name)
        assert found is not None
        return found

    @property
    def told(self) -> str:
        """What its log says, and what workers do."""
        return FlowFiles(self.site.home, self.name).last_lines() + self.site.log("pipelines.worker")[-3000:]

    def wait_for(self, state: str, seconds: float = UP_SECONDS) -> dict[str, Any]:
        wait_until(lambda: self.row["state"] == state, seconds, f"{state}: {self.row}\n{self.told}")
        return self.row

    def wait_for_restart(self, reason: str) -> None:
        wait_until(lambda: self.row["reason"] == reason, UP_SECONDS, f"{reason}: {self.row}\n{self.told}")

    def processes(self) -> list[psutil.Process]:
        """Those of the flow, without guards."""
        program = ["-P", "-m", "pipelines.runner.flows.child", self.name]
        tree = process_tree(*(each.pid for each in self.site.processes if each.poll() is None))
        return [each for each in tree if arguments(each)[1:5] == program]

    def ask(self, what: str) -> dict[str, Any]:
        return getattr(acting, f"{what}_flow")(self.site.store, "ada", self.site.project, flow=self.name)


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with running_brokers(tmp_path_factory.mktemp("broker") / "kafka", 1) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def flow(site: Site, brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> Flow:
    for name, value in brokers.variables().items():
        monkeypatch.setenv(name, value)
    connection = KafkaConnection.from_settings(Settings.load().kafka)
    brokers.wait_until_answering(connection)
    name = f"f-{uuid4().hex[:8]}"
    site.ask("TRUNCATE pipelines.flows")
    apply_topics(connection, [Topic(name=name, partitions=1)])
    fields = {"topic": name, "into": f"s_{uuid4().hex[:8]}.rows", "columns": {"n": "int64"}}
    made = Flow(site, brokers, connection, name, fields)
    made.write()
    return made


@pytest.mark.timeout(240)
def test_a_flow_runs_until_it_is_stopped_and_is_started_again_whatever_ends_it(flow: Flow):
    flow.write(topic=f"{flow.name}-missing")
    assert flow.ask("start") == {"flow": flow.name, "desired": "running", "changed": True}
    flow.send(100)
    # With other tests on the same processors a flow that was told to end may take longer than it is given.
    with flow.site.worker(**flow.brokers.variables(), FLOW_STOP_SECONDS="60"):
        row = flow.wait_for("failed")
        assert "-missing" in row["reason"]
        assert row["last_lines"].splitlines()[-1].endswith(row["reason"])

        flow.write()
        flow.wait_for("running")
        flow.wait_for_rows()
        assert not flow.ask("start")["changed"]

        (process,) = flow.processes()
        process.kill()
        flow.wait_for_restart("its process was killed by SIGKILL")
        flow.send(100)
        flow.wait_for_rows()

        flow.write(start="latest")
        flow.wait_for_restart("its file has changed")
        flow.send(100)
        flow.wait_for_rows()

        log = FlowFiles(flow.site.home, flow.name).log
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
        assert flow.brokers.variables()["KAFKA_PASSWORD"] not in log.read_text()

        assert flow.ask("stop") == {"flow": flow.name, "desired": "stopped", "changed": True}
        assert flow.wait_for("stopped")["reason"] == "stopped by ada"
        assert "has ended as it was told to" in flow.told
        assert not flow.processes()


@pytest.mark.timeout(240)
def test_a_flow_outlives_its_worker_and_an_outage_of_the_database_and_each_row_is_there_once(flow: Flow):
    """Another runs it within 20 s of the kill: a lease, which is looked at here, and one look, which load may delay."""
    flow.ask("start")
    flow.send(100)
    first = flow.site.start("pipelines.worker", **flow.brokers.variables())
    flow.wait_for("running")
    flow.wait_for_rows()
    (process,) = flow.processes()

    with flow.site.worker(**flow.brokers.variables()) as other:
        there = f"SELECT 1 FROM pipelines.workers WHERE pid = {other.pid}"
        wait_until(lambda: flow.site.ask(there), UP_SECONDS, "the other worker to be there")
        first.kill()
        first.wait(10)
        killed_at = time.time()
        ((lease_until,),) = flow.site.ask(f"SELECT lease_until FROM pipelines.flows WHERE name = '{flow.name}'")
        assert lease_until.timestamp() - killed_at <= LEASE_SECONDS
        flow.send(100)
        assert not psutil.wait_procs([process], 15)[1], "it has ended with its worker"
        wait_until(lambda: flow.row["restarts"] == 1, UP_SECONDS, "another worker to take over")
        assert "does not beat any more" in flow.row["reason"]
        late = flow.row["started_at"] - lease_until
        assert 0 <= late.total_seconds() <= LOOK_SECONDS
        flow.wait_for_rows()
        (process,) = flow.processes()

        flow.site.server.end(signal.SIGKILL)
        flow.send(100)
        assert not psutil.wait_procs([process], 25)[1], "before another worker could take it, it is ended"
        flow.site.server.start()
        flow.wait_for_rows()
        assert len(flow.processes()) == 1
    # Told to end, the worker has let go: nobody has to wait for a lease.
    row = flow.row
    assert (row["state"], row["desired"], row["is_held"]) == ("waiting", "running", False)
    flow.ask("stop")
    assert flow.row["state"] == "stopped"


def test_a_flow_that_has_no_file_is_refused_with_those_that_have_one(flow: Flow):
    with pytest.raises(NoSuchRun, match=f"no flow '../x'; flows are .*{flow.name}"):
        acting.start_flow(flow.site.store, "ada", flow.site.project, flow="../x")
    with pytest.raises(NoSuchRun, match="no flow 'gone'"):
        acting.stop_flow(flow.site.store, "ada", flow.site.project, flow="gone")
