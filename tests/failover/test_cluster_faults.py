"""Leaders killed, transactions aborted and certificates rotated under a flow: every record is there, once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.services.certificates import Authority
from tests.services.followed_flow import assert_right, following, wait_until_caught_up
from tests.services.postgres_server import OwnPostgres, running_postgres
from tests.services.three_brokers import Brokers, connection_of, running_brokers
from tests.services.workbench import wait_until
from workbench.ingestion.connection import KafkaConnection
from workbench.ingestion.definition import Flow, make_flow
from workbench.ingestion.producer import OutgoingRecord, produce, transaction
from workbench.ingestion.topics import Topic, apply_topics
from workbench.settings import Settings

PARTITIONS = 3
KILLS = 3


@dataclass(frozen=True)
class Scene:
    """A cluster, a warehouse, and a new topic with its flow."""

    brokers: Brokers
    home: Path
    variables: dict[str, str]
    settings: Settings
    fields: dict[str, object]

    @property
    def connection(self) -> KafkaConnection:
        return connection_of(self.settings)

    @property
    def topic(self) -> str:
        return str(self.fields["topic"])

    @property
    def flow(self) -> Flow:
        return make_flow("followed", self.fields)

    def send(self, start: int, count: int) -> int:
        return produce(self.connection, self.topic, numbered(start, count))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    with running_postgres(tmp_path_factory.mktemp("warehouse") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with running_brokers(tmp_path_factory.mktemp("three") / "kafka", 3) as running:
        yield running


@pytest.fixture(scope="module")
def one_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with running_brokers(tmp_path_factory.mktemp("one") / "kafka", 1) as running:
        yield running


@pytest.fixture
def cluster(three_brokers: Brokers, postgres: OwnPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return make_scene(three_brokers, postgres, tmp_path, monkeypatch)


@pytest.fixture
def broker(one_broker: Brokers, postgres: OwnPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return make_scene(one_broker, postgres, tmp_path, monkeypatch)


def make_scene(brokers: Brokers, postgres: OwnPostgres, home: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    variables = brokers.variables() | postgres.variables()
    for name, value in {**variables, "WORKBENCH_HOME": str(home)}.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    brokers.wait_until_answering(connection_of(settings))
    fields = {"topic": f"t-{uuid4().hex}", "into": f"s_{uuid4().hex}.rows", "columns": {"n": "int64"}}
    scene = Scene(brokers, home, variables, settings, fields)
    apply_topics(scene.connection, [Topic(name=scene.topic, partitions=PARTITIONS)])
    return scene


def numbered(start: int, count: int) -> Iterator[OutgoingRecord]:
    for number in range(start, start + count):
        yield OutgoingRecord(b'{"n":%d}' % number, partition=number % PARTITIONS)


def slowly_until(stop: threading.Event) -> Iterator[OutgoingRecord]:
    """About 2,000 records in a second."""
    number = 0
    while not stop.is_set():
        yield from numbered(number, 100)
        number += 100
        stop.wait(0.05)


@pytest.mark.parametrize("seed", [1])
def test_leaders_killed_one_after_another(cluster, seed):
    rng, stop = random.Random(seed), threading.Event()
    cluster.brokers.wait_until_whole(cluster.connection, cluster.topic)
    with (
        ThreadPoolExecutor(1) as pool,
        following(cluster.home, cluster.fields, cluster.variables) as follower,
    ):
        sent = pool.submit(produce, cluster.connection, cluster.topic, slowly_until(stop))
        try:
            for _ in range(KILLS):
                follower.wait_for_commits(3)
                time.sleep(rng.uniform(0.0, 0.3))  # the instant of the fault, not a wait for anything
                leader = cluster.brokers.leader(cluster.connection, cluster.topic, rng.randrange(PARTITIONS))
                cluster.brokers.kill(leader)
                # It goes on with the two that are left.
                follower.wait_for_commits(3)
                cluster.brokers.start(leader)
                cluster.brokers.wait_until_whole(cluster.connection, cluster.topic)
        finally:
            stop.set()
        acknowledged = sent.result(90)
        wait_until_caught_up(cluster.settings, cluster.flow, follower)

    assert acknowledged > 1000
    assert_right(cluster.settings, cluster.flow, acknowledged)


def test_only_records_of_committed_transactions_arrive(cluster):
    """One in three transactions is aborted, and a leader is killed in the midst of them."""
    rng, committed, start = random.Random(2), 0, 0
    cluster.brokers.wait_until_whole(cluster.connection, cluster.topic)
    with following(cluster.home, cluster.fields, cluster.variables) as follower:
        for turn in range(9):
            count = rng.randint(50, 400)
            if turn == 4:
                leader = cluster.brokers.leader(cluster.connection, cluster.topic, 0)
                cluster.brokers.kill(leader)
                cluster.brokers.start(leader)
            if turn % 3 == 1:
                with pytest.raises(ZeroDivisionError), transaction(cluster.connection, cluster.topic) as producer:
                    producer.produce(cluster.topic, numbered(start, count))
                    raise ZeroDivisionError
            else:
                with transaction(cluster.connection, cluster.topic) as producer:
                    producer.produce(cluster.topic, numbered(start, count))
                committed += count
            start += count
        wait_until_caught_up(cluster.settings, cluster.flow, follower)

    assert_right(cluster.settings, cluster.flow, committed)


@pytest.mark.parametrize("which", ["same authority", "new authority"])
def test_a_broker_with_a_new_certificate_is_gone_on_with(broker, tmp_path, which):
    authority = broker.brokers.authority
    sent = broker.send(0, 3000)
    with following(broker.home, broker.fields, broker.variables) as follower:
        wait_until_caught_up(broker.settings, broker.flow, follower)
        if which == "new authority":
            authority = Authority(tmp_path, "second")
            with broker.brokers.trusted.open("ab") as trusted:
                trusted.write(authority.file.read_bytes())
        restart_with_certificate_of(broker, authority)
        sent += broker.send(sent, 3000)
        wait_until_caught_up(broker.settings, broker.flow, follower)

    assert_right(broker.settings, broker.flow, sent)


def test_a_certificate_that_is_not_trusted_ends_the_flow_and_loses_nothing(broker, tmp_path):
    trusted_before = broker.brokers.trusted.read_bytes()
    sent = broker.send(0, 3000)
    authority = Authority(tmp_path, "unheard-of")
    with following(broker.home, broker.fields, broker.variables) as follower:
        wait_until_caught_up(broker.settings, broker.flow, follower)
        broker.brokers.rotate(authority)
        broker.brokers.kill()
        broker.brokers.start()
        wait_until(lambda: follower.process.poll() is not None, 60, f"the flow to end\n{follower.said}")
        assert "is not trusted (signed by CN=unheard-of)" in follower.said
        assert "WORKBENCH_KAFKA_CA_FILE" in follower.said
        assert "Traceback" not in follower.said

    broker.brokers.trusted.write_bytes(trusted_before + authority.file.read_bytes())
    broker.brokers.wait_until_answering(broker.connection)
    sent += broker.send(sent, 3000)
    with following(broker.home, broker.fields, broker.variables) as follower:
        wait_until_caught_up(broker.settings, broker.flow, follower)

    assert_right(broker.settings, broker.flow, sent)


def restart_with_certificate_of(scene: Scene, authority: Authority) -> None:
    scene.brokers.rotate(authority)
    scene.brokers.kill()
    scene.brokers.start()
    scene.brokers.wait_until_answering(scene.connection)
