"""Leaders killed, transactions aborted and certificates rotated under a flow: every record is there, once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.services.certificates import Authority
from tests.services.followed_flow import PARTITIONS, Scene, make_scene, numbered, outgoing
from tests.services.postgres_server import OwnPostgres, running_postgres
from tests.services.three_brokers import Brokers, running_brokers
from tests.services.workbench import wait_until
from workbench.errors import KafkaUnavailable
from workbench.ingestion.cluster import watermarks
from workbench.ingestion.cluster.readiness import check_cluster, cluster_obstacle
from workbench.ingestion.producer import OutgoingRecord, produce, transaction
from workbench.ingestion.topics import Topic, apply_topics
from workbench.inspection import verify_flow

KILLS = 2


class Refused(Exception):
    """Makes a transaction be aborted."""


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


def slowly_until(stop: threading.Event) -> Iterator[OutgoingRecord]:
    """About 2,000 records in a second."""
    number = 0
    while not stop.is_set():
        yield from outgoing(numbered(number, 100))
        number += 100
        stop.wait(0.05)


@pytest.mark.parametrize("seed", [1])
def test_leaders_killed_one_after_another(cluster, seed):
    rng, stop = random.Random(seed), threading.Event()
    cluster.brokers.wait_until_whole(cluster.connection, cluster.topic)
    with ThreadPoolExecutor(1) as pool, cluster.following() as follower:
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
        cluster.wait_until_caught_up(follower)

    assert acknowledged > 1000
    cluster.assert_right(acknowledged)


@pytest.mark.parametrize("seed", [2])
def test_only_records_of_committed_transactions_arrive(cluster, seed):
    """Every second transaction is aborted when its records are in the topic already; a leader is killed in one of each."""
    rng, committed, sent = random.Random(seed), 0, 0
    cluster.brokers.wait_until_whole(cluster.connection, cluster.topic)
    with cluster.following() as follower:
        for turn in range(4):
            values = numbered(sent, rng.randint(100, 1000))
            sent += len(values)
            aborted = turn % 2 == 1
            expected = pytest.raises(Refused) if aborted else nullcontext()
            with expected, transaction(cluster.connection, cluster.topic) as producer:
                producer.produce(cluster.topic, outgoing(values))
                assert not producer._client.flush(30)
                if turn in {1, 2}:
                    leader = cluster.brokers.leader(cluster.connection, cluster.topic, rng.randrange(PARTITIONS))
                    cluster.brokers.kill(leader)
                    cluster.brokers.start(leader)
                if aborted:
                    raise Refused
            committed += 0 if aborted else len(values)
            if turn in {1, 2}:
                cluster.brokers.wait_until_whole(cluster.connection, cluster.topic)
        cluster.wait_until_caught_up(follower)

    cluster.assert_right(committed)
    offsets = sum(each.next for each in verify_flow(cluster.settings, cluster.flow))
    assert offsets > sent > committed  # the aborted records are in the topic


@pytest.mark.parametrize("which", ["same authority", "new authority"])
def test_a_broker_with_a_new_certificate_is_gone_on_with(broker, tmp_path, which):
    authority = broker.brokers.authority
    sent = broker.send(numbered(0, 3000))
    with broker.following() as follower:
        broker.wait_until_caught_up(follower)
        if which == "new authority":
            authority = Authority(tmp_path, "second")
            with broker.brokers.trusted.open("ab") as trusted:
                trusted.write(authority.file.read_bytes())
        restart_with_certificate_of(broker, authority)
        sent += broker.send(numbered(sent, 3000))
        broker.wait_until_caught_up(follower)

    broker.assert_right(sent)


def test_a_certificate_that_is_not_trusted_ends_the_flow_and_loses_nothing(broker, tmp_path):
    trusted_before = broker.brokers.trusted.read_bytes()
    sent = broker.send(numbered(0, 3000))
    authority = Authority(tmp_path, "unheard-of")
    with broker.following() as follower:
        broker.wait_until_caught_up(follower)
        broker.brokers.kill()
        broker.brokers.rotate(authority)
        broker.brokers.start()
        wait_until(lambda: follower.process.poll() is not None, 60, f"the flow to end\n{follower.said}")
        assert "is not trusted (signed by CN=unheard-of)" in follower.said
        assert "WORKBENCH_KAFKA_CA_FILE" in follower.said
        assert "Traceback" not in follower.said

    broker.brokers.trusted.write_bytes(trusted_before + authority.file.read_bytes())
    broker.brokers.wait_until_answering(broker.connection)
    sent += broker.send(numbered(sent, 3000))
    with broker.following() as follower:
        broker.wait_until_caught_up(follower)

    broker.assert_right(sent)


def test_a_cluster_that_lacks_a_broker_does_its_work_unless_a_partition_is_without_a_leader(cluster):
    connection, brokers, single = cluster.connection, cluster.brokers, f"{cluster.topic}-single"
    brokers.wait_until_whole(connection, cluster.topic)
    wait_until(lambda: cluster_obstacle(connection) == "", 60, "the cluster to be whole at first")

    brokers.kill(3)
    wait_until(lambda: "fewer replicas in sync" in cluster_obstacle(connection), 60, "the missing replicas")
    check_cluster(connection)
    brokers.start(3)
    brokers.wait_until_whole(connection, cluster.topic)
    wait_until(lambda: cluster_obstacle(connection) == "", 60, "the cluster to be whole")

    apply_topics(connection, [Topic(name=single, partitions=3, replication=1)])
    leader = brokers.leader(connection, single, 0)
    brokers.kill(leader)
    wait_until(lambda: "has no leader" in cluster_obstacle(connection), 60, "the partition without a leader")
    with pytest.raises(KafkaUnavailable, match=f"{single}/0 has no leader"):
        check_cluster(connection)
    brokers.start(leader)
    brokers.wait_until_whole(connection, cluster.topic)
    wait_until(lambda: cluster_obstacle(connection) == "", 60, "the cluster to be whole again")


@pytest.mark.parametrize(
    ("request_name", "our_seconds"), [("describe_topics", 1.1), ("list_offsets", 1.1), ("describe_topics", 0.2)]
)
def test_a_broker_that_falls_silent_between_two_questions_is_said_to_be_unavailable(
    broker, monkeypatch, request_name, our_seconds
):
    from confluent_kafka.admin import AdminClient

    monkeypatch.setattr(watermarks, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(watermarks, "FUTURE_SECONDS", our_seconds)
    request = getattr(AdminClient, request_name)
    with broker.brokers.stopped() as stop:

        def silenced(*arguments, **options):
            stop()
            return request(*arguments, **options)

        monkeypatch.setattr(AdminClient, request_name, silenced)
        with pytest.raises(KafkaUnavailable, match="did not answer"):
            watermarks.read_topic_state(broker.connection, broker.topic)

    monkeypatch.undo()
    broker.brokers.wait_until_answering(broker.connection)


def restart_with_certificate_of(scene: Scene, authority: Authority) -> None:
    scene.brokers.rotate(authority)
    scene.brokers.kill()
    scene.brokers.start()
    scene.brokers.wait_until_answering(scene.connection)
