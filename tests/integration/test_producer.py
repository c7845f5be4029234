"""Records into Kafka: formats of notebooks, headers, interrupts and transactions."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import workbench
from tests.services.schema_registry import RunningRegistry, running_registry
from tests.services.workbench import environment, wait_until
from workbench.errors import KafkaError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.decoding.registry import SchemaRegistry, make_decoder
from workbench.ingestion.producer import OutgoingRecord, produce, transaction

READING = {
    "type": "record",
    "name": "Reading",
    "fields": [{"name": "sensor", "type": "string"}, {"name": "value", "type": ["null", "double"]}],
}


@pytest.fixture
def connection(settings) -> KafkaConnection:
    return KafkaConnection.from_settings(settings.kafka)


@pytest.fixture
def topic(connection) -> str:
    name = f"t-{uuid4().hex}"
    client = AdminClient(connection.for_confluent())
    client.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    return name


@pytest.fixture
def server() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


def read(connection: KafkaConnection, topic: str, isolation: str = "read_committed") -> list[Any]:
    """The records that a topic holds now."""
    consumer = Consumer(
        {
            **connection.for_confluent(),
            "group.id": uuid4().hex,
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = []
    try:
        while True:
            message = consumer.poll(30)
            assert message is not None, "the broker is silent"
            if message.error():
                return found
            found.append(message)
    finally:
        consumer.close()


def outgoing(*numbers: int) -> list[OutgoingRecord]:
    return [OutgoingRecord(b"%d" % number) for number in numbers]


def numbers(connection: KafkaConnection, topic: str, isolation: str = "read_committed") -> list[int]:
    return [int(message.value()) for message in read(connection, topic, isolation)]


def wait_for_numbers(connection: KafkaConnection, topic: str, expected: list[int]) -> None:
    """Wait until these can be read: a transaction has ended for its producer before its marker is in the topic."""
    wait_until(lambda: numbers(connection, topic) == expected, 60, f"{expected} to be read")


def test_headers_times_keys_and_tombstones_arrive(connection, topic):
    record = OutgoingRecord(
        None, b"k", partition=0, headers=(("trace", b"1"), ("empty", None)), timestamp_milliseconds=1_357_041_600_000
    )

    assert produce(connection, topic, [record, OutgoingRecord(b"v")]) == 2

    first, second = read(connection, topic)
    assert (first.key(), first.value()) == (b"k", None)
    assert first.headers() == [("trace", b"1"), ("empty", None)]
    assert first.timestamp()[1] == 1_357_041_600_000
    assert second.timestamp()[1] > 1_600_000_000_000
    assert second.headers() is None


def test_a_data_frame_arrives_in_its_order(connection, topic):
    frame = pd.DataFrame({"n": range(5000), "at": pd.Timestamp("2013-01-01", tz="UTC")})

    assert workbench.produce(topic, frame, key="n") == 5000

    messages = read(connection, topic)
    assert [json.loads(message.value()) for message in messages[:2]] == [
        {"n": 0, "at": "2013-01-01T00:00:00Z"},
        {"n": 1, "at": "2013-01-01T00:00:00Z"},
    ]
    assert [int(message.key()) for message in messages] == list(range(5000))


def test_avro_goes_through_the_registry(connection, topic, server, monkeypatch):
    monkeypatch.setenv("WORKBENCH_REGISTRY_URL", server.url)
    rows = [{"sensor": "a", "value": 1.5}, {"sensor": "b", "value": None}]

    with pytest.raises(KafkaError, match="no such schema"):
        workbench.produce(topic, rows, format="avro", schema=READING)
    workbench.produce(topic, rows, format="avro", schema=READING, register=True)
    workbench.produce(topic, pd.DataFrame(rows), format="avro", key="sensor")

    messages = read(connection, topic)
    decoded = make_decoder("avro", SchemaRegistry(url=server.url)).decode([message.value() for message in messages])
    assert decoded.rows.to_pylist() == rows * 2
    assert [message.key() for message in messages] == [None, None, b"a", b"b"]


def test_without_a_registry_avro_is_refused(topic):
    with pytest.raises(KafkaError, match="Set WORKBENCH_REGISTRY_URL"):
        workbench.produce(topic, [{"a": 1}], format="avro")


def test_a_row_that_does_not_fit_says_how_many_were_sent_before(connection, topic):
    rows = [*({"n": n} for n in range(10)), {"n": b"x"}]

    with pytest.raises(KafkaError, match=r"row 10 .* field n of type bytes") as caught:
        workbench.produce(topic, rows)

    assert caught.value.__notes__ == [f"10 records for {topic} were acknowledged before."]
    assert len(read(connection, topic)) == 10


def test_a_record_that_the_broker_refuses_is_told(connection, topic):
    with pytest.raises(KafkaError, match="1 of 1 records"):
        produce(connection, topic, [OutgoingRecord(b"x", partition=7)])


INTERRUPTED = """
import itertools, sys
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.settings import Settings

def records():
    for n in itertools.count():
        if n == 5000:
            print("sending", flush=True)
        yield OutgoingRecord(b"%d" % n)

try:
    produce(KafkaConnection.from_settings(Settings.load().kafka), sys.argv[1], records())
except KeyboardInterrupt as interrupt:
    print(interrupt)
"""


def test_an_interrupt_says_what_was_acknowledged(connection, topic, shared_workbench):
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, topic],
        env=environment(shared_workbench.home),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "sending\n"
        process.send_signal(signal.SIGINT)
        told = process.stdout.read().strip()
        process.wait(60)

    assert told.startswith("interrupted: at least "), told
    ending = re.search(r"were not sent(?:, of (\d+) it is not known)?$", told)
    assert ending, told
    unknown = int(ending[1] or 0)
    acknowledged, found = int(told.split()[3]), numbers(connection, topic)
    assert found == list(range(len(found)))
    assert acknowledged <= len(found) <= acknowledged + unknown + 1


def test_a_transaction_is_read_whole_when_it_is_committed(connection, topic):
    with transaction(connection, topic) as producer:
        producer.produce(topic, outgoing(1, 2))
        assert numbers(connection, topic) == []
        producer.produce(topic, outgoing(3))

    wait_for_numbers(connection, topic, [1, 2, 3])


def test_a_block_that_raises_leaves_nothing_to_read(connection, topic):
    def fail() -> None:
        with transaction(connection, topic) as producer:
            producer.produce(topic, outgoing(*range(3000)))
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    with transaction(connection, topic) as producer:
        producer.produce(topic, outgoing(7))

    wait_for_numbers(connection, topic, [7])


def test_a_record_that_is_refused_aborts_the_transaction(connection, topic):
    with (
        pytest.raises(KafkaError, match="was aborted, none of its records can be read"),
        transaction(connection, topic) as producer,
    ):
        producer.produce(topic, [*outgoing(1), OutgoingRecord(b"2", partition=7)])

    assert numbers(connection, topic) == []


def test_a_second_producer_of_the_same_id_fences_the_first(connection, topic):
    def both() -> None:
        with transaction(connection, topic) as first:
            first.produce(topic, outgoing(1))
            with transaction(connection, topic) as second:
                second.produce(topic, outgoing(2))

    with pytest.raises(KafkaError, match="was fenced off and its transaction aborted"):
        both()

    wait_for_numbers(connection, topic, [2])


def test_a_transaction_that_nobody_answers_is_told(monkeypatch):
    monkeypatch.setattr("workbench.ingestion.producer.TRANSACTION_SECONDS", 0.1)
    connection = KafkaConnection(bootstrap_servers=("127.0.0.1:9",), security_protocol="PLAINTEXT")

    with pytest.raises(KafkaError, match="was not answered"), transaction(connection, "x"):
        pass
