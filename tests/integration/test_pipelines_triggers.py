"""Records of a topic, lags of a group and changes of a table start runs: each once, whoever is killed."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from pipelines.scheduler import triggers as scheduling
from pipelines.scheduler.outside import asking
from pipelines.scheduler.outside.observing import Outside
from pipelines.scheduler.scheduler import Scheduler
from tests.services.pipelines_project import Site, running_site
from tests.services.workbench import wait_until
from workbench.errors import StoreUnavailable
from workbench.ingestion.cluster import connection as cluster_connection
from workbench.ingestion.cluster import positions as cluster_positions
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.settings import Settings

NOTHING = {"a": {"function": "nothing:nothing"}}
SEEN_SECONDS = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        site.module("nothing", "def nothing() -> None:\n    pass\n")
        yield site


@pytest.fixture
def site(server: Site, monkeypatch):
    for path in server.project.jobs.glob("*.yaml"):
        path.unlink()
    server.ask("TRUNCATE pipelines.schedules, pipelines.skips, pipelines.runs CASCADE")
    server.ask("DROP SCHEMA IF EXISTS raw CASCADE")
    server.ask("CREATE SCHEMA raw")
    monkeypatch.setattr(asking, "EVERY_SECONDS", 0.1)
    return server


@pytest.fixture
def brokers(settings: Settings) -> dict[str, str]:
    """Variables that lead to the broker of the session."""
    return settings.kafka.as_environment()


@pytest.fixture
def topic(settings: Settings):
    """A new topic of one partition."""
    topic = Topic(f"t-{uuid.uuid4().hex[:12]}", KafkaConnection.from_settings(settings.kafka).for_confluent())
    topic.admin.create_topics([NewTopic(topic.name, 1, 1)])[topic.name].result(20)
    return topic


class Topic:
    """A topic, and a group that reads it."""

    def __init__(self, name: str, properties: dict[str, object]) -> None:
        self.name, self.properties, self.admin = name, properties, AdminClient(properties)

    def put(self, count: int, partition: int = 0) -> None:
        producer = Producer(self.properties)
        for number in range(count):
            producer.produce(self.name, b'{"n": %d}' % number, partition=partition)
        assert producer.flush(20) == 0

    def commit(self, offset: int) -> None:
        consumer = Consumer({**self.properties, "group.id": f"g-{self.name}"})
        consumer.commit(offsets=[TopicPartition(self.name, 0, offset)], asynchronous=False)
        consumer.close()

    def grow(self) -> None:
        self.admin.create_partitions([NewPartitions(self.name, 2)])[self.name].result(20)

    def make_anew(self) -> None:
        self.admin.delete_topics([self.name])[self.name].result(20)
        wait_until(lambda: self.name not in self.admin.list_topics(timeout=10).topics, 20, "the topic to be gone")

        def is_made() -> bool:
            made = self.admin.create_topics([NewTopic(self.name, 1, 1)])[self.name].exception(20)
            return made is None

        wait_until(is_made, 20, "the topic to be there again")


@contextmanager
def scheduler(site: Site, monkeypatch, **variables: str):
    """One in this process, which looks when it is told to."""
    for name, value in {**site.settings(), **variables, "WORKBENCH_HOME": str(site.home)}.items():
        monkeypatch.setenv(name, value)
    outside = Outside(Settings.load())
    try:
        found = Scheduler(site.store, site.project, outside)
        found.sync()
        yield found
    finally:
        outside.close()


def events(site: Site) -> list[str]:
    return [row[0] for row in site.ask("SELECT parameters->'run'->>'event' FROM pipelines.runs ORDER BY id")]


def positions(site: Site) -> list[object]:
    return [row[0] for row in site.ask("SELECT position FROM pipelines.schedules ORDER BY name")]


def watched(site: Site, name: str, trigger: dict[str, object]) -> None:
    rule = {**trigger, "parameters": {"event": "${trigger.event}"}}
    site.pipeline(name, parameters={"event": "str"}, triggers=[rule], steps=NOTHING)


def until(condition, schedulers, what: str) -> None:
    def look() -> bool:
        for each in schedulers:
            each.sync()
            each.watch()
        return condition()

    wait_until(look, SEEN_SECONDS, what)


def idle(schedulers, rounds: int = 8) -> None:
    """Look for as long as an answer that says more would take."""
    deadline = time.monotonic() + rounds * asking.EVERY_SECONDS
    while time.monotonic() < deadline:
        for each in schedulers:
            each.watch()
        time.sleep(0.02)


@pytest.mark.timeout(180)
def test_records_start_a_run_once_for_two_schedulers(site: Site, brokers, topic: Topic, monkeypatch):
    topic.put(7)
    watched(site, "topical", {"kafka": {"topic": topic.name, "records": 5}})
    with scheduler(site, monkeypatch, **brokers) as one, scheduler(site, monkeypatch, **brokers) as two:
        both = [one, two]
        until(lambda: positions(site) != [None], both, "the first look")
        topic.put(4)
        idle(both)
        assert events(site) == []

        topic.put(1)
        until(lambda: events(site), both, "the run")
        idle(both)
        assert events(site) == [f"{topic.name} 5"]

        topic.grow()
        topic.put(5, partition=1)
        until(lambda: len(events(site)) > 1, both, "the run of the new partition")
        topic.make_anew()
        topic.put(6)
        until(lambda: len(events(site)) > 2, both, "the run of the topic made anew")
        idle(both)

    assert events(site) == [f"{topic.name} {count}" for count in (5, 5, 6)]


@pytest.mark.timeout(180)
def test_a_lag_starts_a_run_and_the_next_when_the_group_was_there_or_has_gone_on(
    site: Site, brokers, topic: Topic, monkeypatch
):
    watched(site, "behind", {"kafka": {"topic": topic.name, "lag": 5, "group": f"g-{topic.name}"}})
    with scheduler(site, monkeypatch, **brokers) as one, scheduler(site, monkeypatch, **brokers) as two:
        both = [one, two]
        topic.put(5)
        until(lambda: events(site), both, "the run")
        topic.commit(5)
        topic.put(9)
        idle(both)
        assert len(events(site)) == 1  # it has not ended

        site.ask("UPDATE pipelines.runs SET state = 'failed', ended_at = now()")
        until(lambda: len(events(site)) == 2, both, "the next run")
        site.ask("UPDATE pipelines.runs SET state = 'failed', ended_at = now()")
        idle(both)
        assert len(events(site)) == 2  # it has not brought the group on

        topic.commit(14)
        idle(both)
        topic.put(6)
        until(lambda: len(events(site)) == 3, both, "the run after the group was there")

    assert events(site) == [f"g-{topic.name} {topic.name} {lag}" for lag in (5, 9, 6)]


@pytest.mark.timeout(180)
def test_a_flow_that_falls_behind_is_brought_on_by_its_own_lag(site: Site, brokers, topic: Topic, monkeypatch):
    site.file("pipelines/flows/orders.yaml", f"topic: {topic.name}\ninto: raw.orders\ncolumns: {{n: int64}}\n")
    rule = {"kafka": {"topic": topic.name, "lag": 3, "group": f"workbench.raw.orders.{topic.name}"}}
    site.pipeline("orders", triggers=[rule], steps={"load": {"flow": "orders"}})
    with scheduler(site, monkeypatch, **brokers) as one, site.worker(**brokers):
        topic.put(4)
        until(lambda: last_state(site) == "succeeded", [one], "a run that succeeds")
        idle([one])

    assert site.ask("SELECT count(*) FROM raw.orders") == [(4,)]
    assert site.ask("SELECT count(*) FROM pipelines.runs") == [(1,)]


def last_state(site: Site) -> object:
    return next((state for (state,) in site.ask("SELECT state FROM pipelines.runs ORDER BY id DESC LIMIT 1")), None)


@pytest.mark.timeout(180)
def test_a_named_cluster_with_a_password_is_asked_beside_one_that_does_not_answer(
    site: Site, settings: Settings, topic: Topic, monkeypatch, caplog
):
    kafka = settings.kafka
    entry = {
        "brokers": ",".join(kafka.brokers),
        "username": kafka.username,
        "password": "env:THEIR_PASSWORD",
        "sasl_mechanism": kafka.sasl_mechanism,
        "ca_file": str(kafka.ca_file),
    }
    file = site.file("clusters.yaml", yaml.safe_dump({"clusters": {"theirs": entry}}))
    watched(site, "theirs", {"kafka": {"topic": topic.name, "records": 2, "cluster": "theirs"}})
    watched(site, "silent", {"kafka": {"topic": topic.name, "records": 2}})
    watched(site, "missing", {"kafka": {"topic": "no-such-topic", "records": 2, "cluster": "theirs"}})
    variables = {
        "KAFKA_BROKERS": "127.0.0.1:9",
        "WORKBENCH_KAFKA_CLUSTERS_FILE": str(file),
        "THEIR_PASSWORD": kafka.password.get_secret_value(),
    }
    gives_up, read = threading.Event(), cluster_positions.PositionReader.read

    def reading(reader: cluster_positions.PositionReader, *asked: Any) -> cluster_positions.Positions:
        if reader._connection.bootstrap_servers == ("127.0.0.1:9",):
            gives_up.wait(120)
        return read(reader, *asked)

    monkeypatch.setattr(cluster_positions.PositionReader, "read", reading)
    with scheduler(site, monkeypatch, **variables) as one:
        until(lambda: any(positions(site)), [one], "the first look")
        topic.put(3)
        began = time.monotonic()
        one.watch()
        assert time.monotonic() - began < 30, "it has not waited for the silent one"

        until(lambda: events(site), [one], "the run")
        for module in (cluster_connection, cluster_positions):
            monkeypatch.setattr(module, "ANSWER_SECONDS", 1.0)
        gives_up.set()
        until(lambda: "127.0.0.1:9" in caplog.text, [one], "the silent cluster to be told of")

    assert caplog.text.count("there is no topic 'no-such-topic'") == 1
    assert kafka.password.get_secret_value() not in caplog.text


@pytest.mark.timeout(180)
def test_a_change_of_a_table_starts_a_run_and_what_is_changed_meanwhile_one_more(site: Site, monkeypatch):
    site.ask("CREATE TABLE raw.t (n int)")
    site.ask("INSERT INTO raw.t VALUES (1)")
    watched(site, "changed", {"table": {"name": "raw.t"}})
    with scheduler(site, monkeypatch) as one, scheduler(site, monkeypatch) as two:
        both = [one, two]
        until(lambda: positions(site) != [None], both, "the first look")
        idle(both)
        assert events(site) == []

        for _ in range(3):
            site.ask("INSERT INTO raw.t VALUES (1)")
        until(lambda: events(site), both, "the run")
        idle(both)
        folded = len(events(site))

        site.ask("UPDATE pipelines.schedules SET paused = true")
        one.sync()
        two.sync()
        site.ask("DELETE FROM raw.t")
        idle(both)
        assert len(events(site)) == folded
        site.ask("UPDATE pipelines.schedules SET paused = false")
        until(lambda: len(events(site)) > folded, both, "the run of what happened while it was paused")
        idle(both)

    assert 1 <= folded <= 3
    assert events(site) == ["raw.t"] * (folded + 1)


@pytest.mark.timeout(180)
def test_a_run_and_the_position_are_kept_together_or_not_at_all(site: Site, monkeypatch):
    site.ask("CREATE TABLE raw.t (n int)")
    watched(site, "changed", {"table": {"name": "raw.t"}})
    with scheduler(site, monkeypatch) as one:
        until(lambda: positions(site) != [None], [one], "the first look")
        before = positions(site)
        site.ask("INSERT INTO raw.t VALUES (1)")

        with monkeypatch.context() as broken:
            broken.setattr(scheduling, "advance", breaking(scheduling.advance))
            with pytest.raises(StoreUnavailable):
                until(lambda: False, [one], "the connection to break")
        assert (events(site), positions(site)) == ([], before)

        until(lambda: events(site), [one], "the run")
        idle([one])

    assert events(site) == ["raw.t"]


def breaking(advance):
    """The connection breaks when all was written and nothing was committed."""

    def broken(*arguments):
        assert advance(*arguments)
        raise StoreUnavailable("the connection broke", remedy="")

    return broken


@pytest.mark.timeout(180)
def test_no_event_is_lost_or_doubled_while_schedulers_are_killed(site: Site, brokers, topic: Topic, monkeypatch):
    site.ask("CREATE TABLE raw.t (n int)")
    watched(site, "changed", {"table": {"name": "raw.t"}})
    watched(site, "topical", {"kafka": {"topic": topic.name, "records": 10}})
    with scheduler(site, monkeypatch, **brokers) as first:
        until(lambda: None not in positions(site), [first], "the first look")

    for number in range(2):
        ((changed_at,),) = site.ask("SELECT clock_timestamp()")
        twins = [site.start("pipelines.scheduler", **brokers) for _ in range(2)]
        site.ask(f"INSERT INTO raw.t VALUES ({number})")
        topic.put(10)
        wait_until(lambda most=number: len(events(site)) > most, SEEN_SECONDS, "a run")
        for each in twins:
            each.send_signal(signal.SIGKILL)
            each.wait(10)

    def records() -> int:
        return sum(int(each.split()[1]) for each in events(site) if " " in each)

    def is_told() -> bool:
        ((told_at,),) = site.ask("SELECT max(created_at) FROM pipelines.runs WHERE pipeline = 'changed'")
        return told_at is not None and told_at > changed_at

    with scheduler(site, monkeypatch, **brokers) as last:
        until(lambda: records() >= 20 and is_told(), [last], "runs for all records and for the last change")
        idle([last])

    made = [each.split() for each in events(site)]
    assert records() == 20
    assert 1 <= sum(len(each) == 1 for each in made) <= 2
    assert len({row[0] for row in site.ask("SELECT event_id FROM pipelines.runs")}) == len(made)
