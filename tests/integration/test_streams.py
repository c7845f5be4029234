"""Streaming queries for what looks at several records: windows into a table, and topic to topic in real time."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

import workbench
from tests.services.canaries import files_with, new_canary
from tests.services.workbench import wait_until
from workbench.errors import WarehouseError, WorkbenchError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import Flow, make_flow
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.streams import relay, run_stream

WINDOWS = {
    "aggregate_windows": {
        "by": "at",
        "length": "1 minute",
        "key": ["shop"],
        "aggregates": {"sales": "count(*)", "total": "sum(amount)"},
        "watermark": "1 second",
    }
}
COLUMNS = {"at": "timestamp", "shop": "string", "amount": "float64"}


@pytest.fixture
def connection(settings) -> KafkaConnection:
    return KafkaConnection.from_settings(settings.kafka)


@pytest.fixture
def topic(connection) -> Callable[[], str]:
    def make() -> str:
        name = f"t-{uuid4().hex}"
        apply_topics(connection, [Topic(name=name, partitions=1)])
        return name

    return make


def windows(topic: str) -> Flow:
    fields = {"topic": topic, "into": f"s_{uuid4().hex}.windows", "columns": COLUMNS, "engine": "stream"}
    return make_flow(topic, {**fields, "steps": [WINDOWS]})


def sale(minute: int, shop: str, amount: float) -> OutgoingRecord:
    text = f'{{"at":"2026-01-01T00:{minute:02}:30Z","shop":"{shop}","amount":{amount}}}'
    return OutgoingRecord(text.encode(), partition=0)


def closed(table: str) -> list[tuple[object, ...]]:
    try:
        query = f"SELECT window_start::text AS t, shop, sales, total FROM {table} ORDER BY 1, 2"
        return [
            (t[14:16], shop, sales, total) for t, shop, sales, total in workbench.sql(query).itertuples(index=False)
        ]
    except WorkbenchError:
        return []  # the table is not there yet


@contextmanager
def running(work: Callable[[threading.Event], None]) -> Iterator[threading.Thread]:
    """Something that goes on until it is stopped; its error is raised at the end."""
    stop, failures = threading.Event(), []

    def call() -> None:
        try:
            work(stop)
        except Exception as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_windows_go_into_the_table_once_across_runs_and_metrics_tell(settings, connection, topic, tmp_path):
    flow = windows(topic())
    key, dead = new_canary(), new_canary()
    produce(connection, flow.topic, [sale(0, "a", 1), sale(0, "a", 2), sale(0, "b", 5), sale(1, "a", 1)])
    produce(connection, flow.topic, [OutgoingRecord(f"{{{dead}".encode(), partition=0), sale(2, "a", 7)])

    run_stream(settings, flow, checkpoints=str(tmp_path / "checkpoints"))
    produce(connection, flow.topic, [sale(5, "a", 1), sale(5, key, 1)])
    run_stream(settings, flow, checkpoints=str(tmp_path / "checkpoints"))

    # Keys of windows that are open are in the state; offsets and commits hold nothing of a record.
    assert {each.split("/")[1] for each in files_with(tmp_path / "checkpoints", key)} == {"state"}
    assert files_with(tmp_path / "checkpoints", dead) == []
    assert closed(flow.into) == [("00", "a", 2, 3.0), ("00", "b", 1, 5.0), ("01", "a", 1, 1.0), ("02", "a", 1, 7.0)]
    assert workbench.sql("SELECT count(*) AS n FROM workbench.streams WHERE stream = :s", {"s": flow.name})["n"][0] == 1
    folder = tmp_path / "checkpoints" / flow.name
    assert [stat.S_IMODE(each.stat().st_mode) for each in (folder.parent, folder)] == [0o700, 0o700]
    label = {"stream": flow.name}
    wait_until(lambda: sample("workbench_stream_rows_total", **label) >= 7, 30, "the metrics of both runs")
    assert sample("workbench_stream_undecodable_records_total", **label) >= 1
    assert sample("workbench_stream_state_rows", **label) > 0
    assert sample("workbench_stream_batch_seconds_count", **label) >= 2


def test_a_checkpoint_that_is_gone_is_told_and_nothing_is_written_twice(settings, connection, topic, tmp_path):
    flow = windows(topic())
    produce(connection, flow.topic, [sale(0, "a", 1), sale(3, "a", 1)])
    run_stream(settings, flow, checkpoints=str(tmp_path / "first"))

    with pytest.raises(WarehouseError, match="of another checkpoint"):
        run_stream(settings, flow, checkpoints=str(tmp_path / "second"))

    assert closed(flow.into) == [("00", "a", 1, 1.0)]


def test_a_stream_that_fails_for_good_says_so_at_once(settings, connection, topic, tmp_path):
    flow = make_flow(
        "x",
        {**_fields(windows(topic())), "steps": [{"dedupe_stream": {"key": "no", "by": "at", "watermark": "1 minute"}}]},
    )
    before = restarts(flow)

    with pytest.raises(WorkbenchError, match="no"):
        run_stream(settings, flow, follow=True, checkpoints=str(tmp_path))

    assert restarts(flow) == before, "it was not tried again"


def restarts(flow: Flow) -> float:
    found = [each for family in REGISTRY.collect() for each in family.samples if each.labels.get("stream") == flow.name]
    return sum(each.value for each in found if each.name == "workbench_stream_restarts_total")


def _fields(flow: Flow) -> dict[str, object]:
    return {"topic": flow.topic, "into": flow.into, "columns": COLUMNS, "engine": "stream"}


def test_real_time_mode_sends_records_on_as_they_come(settings, connection, topic, tmp_path):
    from pyspark.sql import functions as F

    source, target, canary = topic(), topic(), new_canary()
    upper = lambda frame: frame.select("key", F.upper(F.col("value").cast("string")).alias("value"))  # noqa: E731

    with running(lambda stop: relay(settings, source, target, [upper], stop=stop, checkpoints=str(tmp_path))):
        # The query reads what comes after its start, which is told by nothing but what arrives.
        wait_until(
            lambda: sent(connection, source, canary.encode()) and values(connection, target), 60, "the first record"
        )
        took = []
        for number in range(5):
            began = time.monotonic()
            sent(connection, source, b"n%d" % number)
            wait_until(lambda number=number: (b"k", b"N%d" % number) in values(connection, target), 30, f"{number}")
            took.append(time.monotonic() - began)
    assert list(tmp_path.rglob("offsets/*"))
    assert files_with(tmp_path, canary, canary.upper()) == []  # no state: offsets alone
    assert min(took) < 4, took  # a micro-batch would wait for the 5 s between two checkpoints


def sent(connection: KafkaConnection, topic: str, value: bytes) -> int:
    return produce(connection, topic, [OutgoingRecord(value, b"k", partition=0)])


def values(connection: KafkaConnection, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Keys and values that the topic holds."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({**connection.for_confluent(), "group.id": "test", "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        found = []
        while (message := consumer.poll(10)) is not None and message.error() is None:
            found.append((message.key(), message.value()))
        return found
    finally:
        consumer.close()
