"""Kafka to the warehouse, each record exactly once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from uuid import uuid4

import pytest

import workbench
from tests.services.workbench import environment, wait_until
from workbench.errors import KafkaError, WarehouseError
from workbench.flows import ingest_flow
from workbench.ingestion.batch import BatchLimits
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.watermarks import read_topic_state
from workbench.ingestion.definition import make_flow
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.inspection import read_dead_letters

COLUMNS = {"n": "int64", "text": "string"}


@pytest.fixture
def connection(settings) -> KafkaConnection:
    return KafkaConnection.from_settings(settings.kafka)


@pytest.fixture
def topic(connection) -> str:
    name = f"t-{uuid4().hex}"
    apply_topics(connection, [Topic(name=name, partitions=3)])
    return name


@pytest.fixture
def schema() -> str:
    return f"s_{uuid4().hex}"


def send(connection: KafkaConnection, topic: str, values: Iterable[bytes | None]) -> int:
    return produce(
        connection, topic, (OutgoingRecord(value, partition=number % 3) for number, value in enumerate(values))
    )


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b'{"n":%d,"text":"row %d"}' % (n, n) for n in range(start, start + count)]


def scalar(query: str) -> int:
    return int(workbench.sql(query).iloc[0, 0])


def test_every_record_is_a_row_once_however_often_it_runs(connection, topic, schema):
    send(connection, topic, numbers(5000))

    first = workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)
    second = workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)
    send(connection, topic, numbers(100, start=5000))
    third = workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)

    assert (first.rows, second.rows, third.rows) == (5000, 0, 100)
    assert scalar(f"SELECT count(DISTINCT n) FROM {schema}.rows") == 5100
    assert scalar(f"SELECT count(*) FROM {schema}.rows") == 5100
    assert scalar(f"SELECT count(*) FROM (SELECT DISTINCT _partition, _offset FROM {schema}.rows) AS origins") == 5100


def test_what_does_not_fit_is_kept_with_its_bytes_and_its_reason(settings, connection, topic, schema):
    bad = [b"{broken", b'{"n":"x"}', None, b"\xff", b'{"n":99999999999999999999}']
    values: list[bytes | None] = [*numbers(1000), *bad]
    random.Random(7).shuffle(values)
    send(connection, topic, values)

    done = workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)

    letters = workbench.sql(f"SELECT * FROM {schema}.dead_letters")
    assert (done.rows, done.dead) == (1000, len(bad))
    kept = read_dead_letters(settings, make_flow("f", {"topic": topic, "into": f"{schema}.rows"}), 10, None)
    assert {each.value for each in kept} == set(bad)
    assert min(len(each.reason) for each in kept) > 10
    assert letters["encrypted_with"].notna().all()
    assert set(letters["topic"]) == {topic}
    assert letters["record_timestamp"].notna().all()
    offsets = scalar(f"SELECT sum(next_offset) FROM workbench.offsets WHERE topic = '{topic}'")
    assert offsets == len(values)


def test_killed_at_any_instant_it_goes_on_without_a_gap_or_a_double(connection, topic, schema, shared_workbench):
    """kill -9 of the process that ingests, five times at random instants, then one run to the end."""
    count, rng = 60_000, random.Random(11)
    send(connection, topic, numbers(count))
    program = (
        "from workbench import Settings; from workbench.flows import ingest_flow, BatchLimits;"
        "from workbench.ingestion.definition import make_flow;"
        f"flow = make_flow('t', dict(topic={topic!r}, into='{schema}.rows', columns={COLUMNS!r}));"
        "ingest_flow(Settings.load(), flow, lambda k: print(k, flush=True), limits=BatchLimits(records=500))"
    )
    killed = 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment(shared_workbench.home), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(rng.randint(1, 20)):
            process.stdout.readline()
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    before = scalar(f"SELECT count(*) FROM {schema}.rows")

    workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)

    assert killed == 5
    assert 0 < before < count
    assert scalar(f"SELECT count(*) FROM {schema}.rows") == count
    assert scalar(f"SELECT count(DISTINCT n) FROM {schema}.rows") == count


def test_a_topic_made_anew_under_the_same_name_is_noticed(connection, topic, schema):
    from confluent_kafka.admin import AdminClient

    send(connection, topic, numbers(30))
    workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)
    client = AdminClient(connection.for_confluent())
    client.delete_topics([topic])[topic].result()
    wait_until(lambda: _made_anew(connection, topic), 30, "the topic to be made anew")

    with pytest.raises(WarehouseError, match="the topic was made anew"):
        workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)


def test_a_table_that_was_dropped_is_noticed(connection, topic, schema):
    send(connection, topic, numbers(30))
    workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)
    workbench.sql(f"DROP TABLE {schema}.rows")

    with pytest.raises(WarehouseError, match=r"rows is gone, but workbench\.offsets says"):
        workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)


def test_rows_that_the_table_refuses_are_dead_letters_and_the_others_go_on(settings, connection, topic, schema):
    send(connection, topic, numbers(1000))
    workbench.sql(f"CREATE SCHEMA {schema}")
    workbench.sql(
        f"CREATE TABLE {schema}.rows (n bigint CHECK (n % 100 <> 7), text text, _partition integer NOT NULL, _offset bigint NOT NULL)"
    )

    done = workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)

    assert (done.rows, done.dead) == (990, 10)
    kept = read_dead_letters(settings, make_flow("f", {"topic": topic, "into": f"{schema}.rows"}), 100, None)
    assert len([each for each in kept if "rows_n_check" in each.reason]) == 10
    assert scalar(f"SELECT sum(next_offset) FROM workbench.offsets WHERE topic = '{topic}'") == 1000


def test_a_table_that_does_not_fit_is_described(topic, schema):
    workbench.sql(f"CREATE SCHEMA {schema}")
    workbench.sql(f"CREATE TABLE {schema}.rows (n text)")

    with pytest.raises(WarehouseError) as caught:
        workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)

    assert "column n is TEXT, not BIGINT" in caught.value.message
    assert "column text is missing" in caught.value.message


def test_a_topic_that_does_not_exist_is_named(settings, schema):
    with pytest.raises(KafkaError, match="there is no topic 'absent'"):
        workbench.ingest("absent", into=f"{schema}.rows", columns=COLUMNS)


def test_records_removed_before_they_were_read_are_an_error_not_a_gap(connection, topic, schema):
    send(connection, topic, numbers(9))
    workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)
    send(connection, topic, numbers(9, start=9))
    remove_before(connection, topic, partition=0, offset=5)

    with pytest.raises(KafkaError, match=f"partition 0 of {topic} begins at offset 5; the warehouse asks for 3"):
        workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)


def test_a_topic_that_has_lost_its_end_is_an_error_not_a_gap(connection, topic, schema):
    send(connection, topic, numbers(9))
    workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)
    # As after a broker whose disk has lost the last records: the flow is further than the topic.
    workbench.sql(f"UPDATE workbench.offsets SET next_offset = 5 WHERE topic = '{topic}' AND partition = 1")

    with pytest.raises(KafkaError, match=f"partition 1 of {topic} ends at offset 3, but has been ingested up to 5"):
        workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)


def test_a_new_flow_begins_at_the_oldest_record_that_is_kept(connection, topic, schema):
    send(connection, topic, numbers(9))
    remove_before(connection, topic, partition=0, offset=2)

    assert workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS).rows == 7


def test_a_reason_that_sql_cannot_hold_stops_nothing(connection, topic, schema):
    send(connection, topic, [b'{"n":"a\\u0000b"}'])

    done = workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS)

    assert (done.rows, done.dead) == (0, 1)


def test_produce_and_ingest_from_a_notebook(topic, schema):
    rows = [{"n": n, "text": f"grüße {n}"} for n in range(10)]

    assert workbench.produce(topic, rows, key="n") == 10
    assert workbench.ingest(topic, into=f"{schema}.rows", columns=COLUMNS).rows == 10
    assert set(workbench.sql(f"SELECT text FROM {schema}.rows")["text"]) == {row["text"] for row in rows}


def test_the_batch_size_changes_nothing_but_the_number_of_transactions(settings, connection, topic, schema):
    send(connection, topic, numbers(101))
    committed: list[int] = []
    flow = make_flow("t", {"topic": topic, "into": f"{schema}.rows", "columns": COLUMNS})

    done = ingest_flow(settings, flow, committed.append, limits=BatchLimits(records=10))

    assert done.rows == sum(committed) == 101
    assert max(committed) <= 10


def remove_before(connection: KafkaConnection, topic: str, *, partition: int, offset: int) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    client = AdminClient(connection.for_confluent())
    for future in client.delete_records([TopicPartition(topic, partition, offset)]).values():
        future.result()


def _made_anew(connection: KafkaConnection, topic: str) -> bool:
    try:
        apply_topics(connection, [Topic(name=topic, partitions=3)])
        return len(read_topic_state(connection, topic).next_offsets) == 3
    except KafkaError:  # the old one is still being deleted
        return False
