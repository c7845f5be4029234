"""What a flow does beside appending: merge, contracts, columns of their own, where it begins, what it tells."""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

import workbench
from tests.services.workbench import COMMAND, STARTED_SECONDS, environment, wait_until
from workbench.errors import KafkaError, SettingsError, WarehouseError
from workbench.flows import ingest_flow
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import Flow, make_flow
from workbench.ingestion.producer import OutgoingRecord, produce, transaction
from workbench.ingestion.topics import Topic, apply_topics
from workbench.inspection import (
    count_dead_letters,
    drop_dead_letters,
    lag_of_flows,
    plan_flow,
    read_dead_letters,
    replay_flow_dead_letters,
    verify_flow,
)
from workbench.replay import replay_flow
from workbench.runtime.ports import any_free


@pytest.fixture
def connection(settings) -> KafkaConnection:
    return KafkaConnection.from_settings(settings.kafka)


@pytest.fixture
def topic(connection) -> str:
    name = f"t-{uuid4().hex}"
    apply_topics(connection, [Topic(name=name, partitions=2)])
    return name


@pytest.fixture
def table() -> str:
    return f"s_{uuid4().hex}.rows"


def flow_of(topic: str, table: str, **fields: object) -> Flow:
    return make_flow(topic, {"topic": topic, "into": table, **fields})


def send(connection: KafkaConnection, topic: str, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
    produce(connection, topic, [OutgoingRecord(value, key, partition=0) for key, value in records])


def run(settings, flow: Flow):
    return ingest_flow(settings, flow, lambda _: None)


def rows(table: str, columns: str = "*") -> list[tuple]:
    return list(
        workbench.sql(f"SELECT {columns} FROM {table} ORDER BY _partition, _offset").itertuples(index=False, name=None)
    )


def is_right(settings, flow: Flow) -> bool:
    return all(each.is_right for each in verify_flow(settings, flow))


KEYED = {"columns": {"id": "int64", "v": "string"}, "mode": "merge", "key": ["id"]}


def test_merge_keeps_the_last_record_of_each_key_and_tombstones_delete(settings, connection, topic, table):
    flow = flow_of(topic, table, **KEYED)
    send(connection, topic, [(b"1", b'{"id":1,"v":"a"}'), (b"2", b'{"id":2,"v":"a"}'), (b"1", b'{"id":1,"v":"b"}')])
    send(connection, topic, [(b"2", None), (b"3", b'{"id":3,"v":"a"}')])

    first = run(settings, flow)
    assert rows(table, "id, v") == [(1, "b"), (3, "a")]
    send(connection, topic, [(b"2", b'{"id":2,"v":"back"}'), (b'{"id":3}', None), (b"1", b'{"id":1,"v":"c"}')])
    run(settings, flow)

    assert rows(table, "id, v") == [(2, "back"), (1, "c")]
    assert first.dead == 0


def test_a_merge_can_be_verified(settings, connection, topic, table):
    flow = flow_of(topic, table, **KEYED)
    rng = random.Random(5)
    keys = [rng.randrange(100) for _ in range(2000)]
    send(
        connection,
        topic,
        [(b"%d" % key, rng.choice([None, b'{"id":%d,"v":"%d"}' % (key, n)])) for n, key in enumerate(keys)],
    )
    run(settings, flow)

    assert is_right(settings, flow)
    workbench.sql(f"DELETE FROM {table} WHERE id = (SELECT min(id) FROM {table})")
    assert [each.missing for each in verify_flow(settings, flow)] == [1, 0]


def test_records_that_cannot_be_merged_are_dead_letters(settings, connection, topic, table):
    flow = flow_of(topic, table, **KEYED)
    send(connection, topic, [(None, b'{"v":"no key"}'), (b"x", None), (None, None), (b"1", b'{"id":1}')])

    done = run(settings, flow)

    reasons = {each.reason for each in count_dead_letters(settings, flow)}
    assert (done.rows, done.dead) == (1, 3)
    assert any("a column of the key (id) is null" in each for each in reasons)
    assert any("the key of the tombstone does not fit" in each for each in reasons)
    assert any("neither value nor key" in each for each in reasons)


def test_a_tombstone_that_the_table_refuses_is_a_dead_letter_and_goes_when_it_can(settings, connection, topic, table):
    flow = flow_of(topic, table, **KEYED)
    send(connection, topic, [(b"1", b'{"id":1,"v":"a"}'), (b"2", b'{"id":2,"v":"a"}')])
    run(settings, flow)
    workbench.sql(f"CREATE TABLE {table}_orders (of_row bigint REFERENCES {table} (id))")
    workbench.sql(f"INSERT INTO {table}_orders VALUES (1)")
    send(connection, topic, [(b"1", None), (b"2", None), (b"3", b'{"id":3,"v":"a"}')])

    done = run(settings, flow)

    assert (done.rows, done.dead) == (1, 1)
    assert rows(table, "id") == [(1,), (3,)]
    (letter,) = read_dead_letters(settings, flow, 10, None)
    assert (letter.offset, letter.value, "foreign key" in letter.reason) == (2, None, True)
    assert is_right(settings, flow)
    assert replay_flow_dead_letters(settings, flow, lambda _: None).left == 1
    workbench.sql(f"DROP TABLE {table}_orders")
    replay_flow_dead_letters(settings, flow, lambda _: None)
    assert rows(table, "id") == [(3,)]
    assert not read_dead_letters(settings, flow, 10, None)


def test_evolve_adds_columns_and_widens_integers_in_the_transaction_of_the_data(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"a": "int16"}, contract="evolve")
    send(connection, topic, [(None, b'{"a":1}'), (None, b'{"a":70000,"b":"x"}'), (None, b'{"c":{"d":[1]},"e":1}')])
    run(settings, flow)
    send(connection, topic, [(None, b'{"a":5000000000,"e":1.5,"f":true}'), (None, b'{"e":"text"}')])

    done = run(settings, flow)

    assert (done.rows, done.dead) == (1, 1)
    found = workbench.sql(
        f"SELECT a, b, c, e, f, pg_typeof(a)::text AS a_type, pg_typeof(e)::text AS e_type FROM {table} ORDER BY _offset"
    )
    assert found["a"].iloc[[0, 1, 3]].tolist() == [1, 70000, 5_000_000_000]
    assert (found["b"][1], found["c"][2], found["e"].tolist()[2:], found["f"][3]) == ("x", {"d": [1]}, [1.0, 1.5], True)
    assert (found["a_type"][0], found["e_type"][0]) == ("bigint", "double precision")
    assert is_right(settings, flow)


@pytest.mark.parametrize(
    ("contract", "expected"), [("ignore", (2, 0)), ("freeze", (1, 1)), ("quarantine", (2, 0)), ("evolve", (2, 0))]
)
def test_a_contract_decides_about_fields_without_a_column(settings, connection, topic, table, contract, expected):
    flow = flow_of(topic, table, columns={"a": "int64"}, contract=contract)
    send(connection, topic, [(None, b'{"a":1}'), (None, b'{"a":2,"new":[1,"x"]}')])

    done = run(settings, flow)

    assert (done.rows, done.dead) == expected
    if contract == "freeze":
        assert "does not declare: new" in read_dead_letters(settings, flow, 1, None)[0].reason
    if contract == "quarantine":
        assert rows(table, "_quarantine") == [(None,), ({"new": [1, "x"]},)]


def test_key_timestamp_and_headers_can_be_columns(settings, connection, topic, table):
    headers = [("trace", b"\xff"), ("from", b"test")]
    produce(connection, topic, [OutgoingRecord(b'{"a":1}', b"key", partition=0, headers=headers)])
    before = datetime.now(UTC) - timedelta(minutes=5)

    run(settings, flow_of(topic, table, columns={"a": "int64"}, include=["key", "timestamp", "headers"]))

    ((key, timestamp, found),) = rows(table, "_key, _timestamp, _headers")
    assert bytes(key) == b"key"
    assert timestamp > before
    assert found == [["trace", {"base64": "/w=="}], ["from", "test"]]


def test_a_flow_begins_where_it_is_told(settings, connection, topic, table):
    send(connection, topic, [(None, b'{"a":1}')])
    columns = {"columns": {"a": "int64"}}
    with pytest.raises(KafkaError, match="has no offsets in the warehouse, and its `start` is 'fail'"):
        run(settings, flow_of(topic, table, start="fail", **columns))
    assert run(settings, flow_of(topic, table, start="latest", **columns)).rows == 0
    later = datetime.now(UTC) + timedelta(days=1)
    assert run(settings, flow_of(topic, f"{table}2", start=later, **columns)).rows == 0
    earlier = datetime.now(UTC) - timedelta(days=1)
    assert run(settings, flow_of(topic, f"{table}3", start=earlier, **columns)).rows == 1
    send(connection, topic, [(None, b'{"a":2}')])

    assert rows(table) == []
    assert run(settings, flow_of(topic, table, start="fail", **columns)).rows == 1


def test_a_partition_that_came_later_is_read_from_its_first_record(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"a": "int64"}, start="latest")
    run(settings, flow)
    apply_topics(connection, [Topic(name=topic, partitions=3)])
    wait_until(lambda: sent_to(connection, topic, 2), 20, "the third partition")

    assert run(settings, flow).rows == 1


def sent_to(connection: KafkaConnection, topic: str, partition: int) -> bool:
    try:
        return produce(connection, topic, [OutgoingRecord(b'{"a":1}', partition=partition)]) == 1
    except KafkaError:  # the client does not know the partition yet
        return False


def test_aborted_transactions_are_not_read_and_their_marks_are_no_lag(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"a": "int64"})
    with transaction(connection, f"tx-{uuid4().hex}") as producer:
        producer.produce(topic, [OutgoingRecord(b'{"a":1}', partition=0)])
    with pytest.raises(ValueError, match="on purpose"), transaction(connection, f"tx-{uuid4().hex}") as producer:
        producer.produce(topic, [OutgoingRecord(b'{"a":2}', partition=0)])
        raise ValueError("on purpose")

    assert run(settings, flow).rows == 1
    ((_, _, lags),) = lag_of_flows(settings, flow)
    assert [each.records for each in lags] == [0, 0]
    assert is_right(settings, flow)


def test_kafka_is_told_how_far_the_warehouse_is(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"a": "int64"})
    send(connection, topic, [(None, b'{"a":1}')] * 10)
    run(settings, flow)

    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({**connection.for_confluent(), "group.id": flow.group})
    committed = consumer.committed([TopicPartition(topic, 0)], timeout=10)[0].offset
    consumer.close()
    assert committed == 10


def test_lag_is_told_in_records_and_seconds(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"a": "int64"})
    run(settings, flow)
    old = int((datetime.now(UTC) - timedelta(seconds=90)).timestamp() * 1000)
    produce(connection, topic, [OutgoingRecord(b'{"a":1}', partition=1, timestamp_milliseconds=old)])

    ((_, _, lags),) = lag_of_flows(settings, flow)

    assert [each.records for each in lags] == [0, 1]
    assert lags[0].seconds == 0
    assert 89 < lags[1].seconds < 200


def test_columns_that_are_not_declared_are_inferred_and_then_those_of_the_table(settings, connection, topic, table):
    flow = flow_of(topic, table)
    send(connection, topic, [(None, b'{"a":1,"b":"x","c":1.5,"d":{"e":1},"f":null}')])

    plan = plan_flow(settings, flow)
    run(settings, flow)
    send(connection, topic, [(None, b'{"a":2,"z":"not a column"}')])
    run(settings, flow)

    assert plan.columns == {"a": "int64", "b": "string", "c": "float64", "d": "json"}
    assert plan.records == 1
    assert rows(table, "a, b, d") == [(1, "x", {"e": 1}), (2, None, None)]
    assert plan_flow(settings, flow).columns == plan.columns


BROKEN = (
    b"{malformed", b"", b"\x00\x01", b'{"n":"text"}', b'{"n":99999999999999999999}', b'{"n":1.5}', b'{"text":5}',
    b'{"text":"a\\u0000b"}', b'{"text":"\xff\xfe"}', b'{"text":"\\ud800"}', b'{"n":1,"n":2}', b"[1]", b"null", b"1",
    b'{"n":1}{"n":2}', b'{"n":' + b"[" * 200 + b"]" * 200 + b"}", b'{"at":"yesterday"}', None,
)  # fmt: skip


def test_every_kind_of_broken_record_is_kept_and_the_others_go_on(settings, connection, topic, table):
    rng = random.Random(3)
    values: list[bytes | None] = [b'{"n":%d,"text":"row","at":"2026-01-01T00:00:00Z"}' % n for n in range(5000)]
    broken = [rng.choice(BROKEN) for _ in range(100 - len(BROKEN))] + list(BROKEN)
    for value in broken:
        values.insert(rng.randrange(len(values)), value)
    flow = flow_of(topic, table, columns={"n": "int64", "text": "string", "at": "timestamp"})
    send(connection, topic, [(None, value) for value in values])

    done = run(settings, flow)

    assert (done.rows, done.dead) == (5000, 100)
    assert is_right(settings, flow)
    letters = read_dead_letters(settings, flow, 1000, None)
    assert sorted(each.value or b"" for each in letters) == sorted(value or b"" for value in broken)
    assert all(len(each.reason) > 10 for each in letters)


def test_a_record_of_two_megabytes_is_a_row(settings, connection, topic, table):
    apply_topics(connection, [Topic(name=f"{topic}-big", partitions=1, config={"max.message.bytes": "5000000"})])
    text = "x" * 2_000_000
    produce(connection, f"{topic}-big", [OutgoingRecord(b'{"text":"%s"}' % text.encode(), partition=0)] * 3)

    run(settings, flow_of(f"{topic}-big", table, columns={"text": "string"}))

    assert rows(table, "length(text)") == [(2_000_000,)] * 3


def test_dead_letters_are_moved_once_when_the_flow_is_corrected(settings, connection, topic, table):
    narrow = flow_of(topic, table, columns={"n": "int16", "text": "string"})
    values = [b'{"n":%d,"text":"x"}' % (n if n % 50 else 1_000_000 + n) for n in range(2000)]
    send(connection, topic, [(None, value) for value in [*values, b"{broken"]])
    assert run(settings, narrow).dead == 41
    assert replay_flow_dead_letters(settings, narrow, lambda _: None).moved == 0
    workbench.sql(f"ALTER TABLE {table} ALTER COLUMN n TYPE bigint")
    wide = flow_of(topic, table, columns={"n": "int64", "text": "string"})

    first = replay_flow_dead_letters(settings, wide, lambda _: None)
    second = replay_flow_dead_letters(settings, wide, lambda _: None)

    assert (first.moved, first.left) == (40, 1)
    assert (second.moved, second.left) == (0, 1)
    assert is_right(settings, wide)
    assert len(rows(table)) == 2000
    assert drop_dead_letters(settings, wide, None) == 1
    assert not is_right(settings, wide)


def test_dead_letters_that_the_table_refuses_stay(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"n": "int64"})
    run(settings, flow)
    workbench.sql(f"ALTER TABLE {table} ADD CONSTRAINT small CHECK (n < 5)")
    send(connection, topic, [(None, b'{"n":%d}' % n) for n in range(10)])
    assert run(settings, flow).dead == 5
    workbench.sql(f"ALTER TABLE {table} DROP CONSTRAINT small, ADD CONSTRAINT smaller CHECK (n < 8)")

    done = replay_flow_dead_letters(settings, flow, lambda _: None)

    assert (done.moved, done.left) == (3, 2)
    assert "smaller" in read_dead_letters(settings, flow, 1, None)[0].reason
    assert is_right(settings, flow)


def test_verify_finds_what_is_missing_doubled_and_foreign(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"n": "int64"})
    send(connection, topic, [(None, b'{"n":%d}' % n) for n in range(1000)])
    run(settings, flow)
    assert is_right(settings, flow)
    workbench.sql(f"DELETE FROM {table} WHERE n IN (7, 8, 500)")
    workbench.sql(f"INSERT INTO {table} SELECT * FROM {table} WHERE n = 3")
    workbench.sql(f"INSERT INTO {table} VALUES (1, 0, 5000)")

    report = verify_flow(settings, flow)[0]

    assert (report.missing, report.doubled, report.outside) == (3, 1, 1)
    assert set(report.examples) == {7, 8, 500, 3}


def test_verify_knows_no_table_that_no_flow_has_written(settings, topic):
    with pytest.raises(WarehouseError, match="knows of no flow from"):
        verify_flow(settings, flow_of(topic, "nobody.wrote"))


def test_a_replay_applies_new_columns_to_old_records_while_the_flow_goes_on(
    settings, connection, topic, table, shared_workbench
):
    old = flow_of(topic, table, columns={"n": "int64"})
    send(connection, topic, [(None, b'{"n":%d,"text":"t%d"}' % (n, n)) for n in range(3000)])
    run(settings, old)
    workbench.sql(f"CREATE VIEW {table}_view AS SELECT n FROM {table}")
    new = flow_of(topic, table, columns={"n": "int64", "text": "string"})

    done = replay_flow(settings, new, "earliest", lambda _: None, keep=True)
    send(connection, topic, [(None, b'{"n":3000,"text":"t3000"}')])
    run(settings, new)

    assert done.rows == 3000
    assert workbench.sql(f"SELECT count(DISTINCT text) AS n FROM {table}")["n"][0] == 3001
    assert workbench.sql(f"SELECT count(*) AS n FROM {table}_view")["n"][0] == 3001
    assert workbench.sql(f"SELECT count(*) AS n FROM {done.kept}")["n"][0] == 3000
    assert is_right(settings, new)


def test_a_replay_from_a_time_keeps_older_rows(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"n": "int64"})
    now = datetime.now(UTC)
    times = [now - timedelta(hours=hours) for hours in (3, 2, 1)]
    produce(
        connection,
        topic,
        [
            OutgoingRecord(b'{"n":%d}' % n, partition=0, timestamp_milliseconds=int(time.timestamp() * 1000))
            for n, time in enumerate(times)
        ],
    )
    run(settings, flow)
    workbench.sql(f"UPDATE {table} SET n = n + 100")

    replay_flow(settings, flow, now - timedelta(minutes=150), lambda _: None, keep=False)

    assert rows(table, "n") == [(100,), (1,), (2,)]
    assert is_right(settings, flow)


def test_a_worker_that_follows_takes_what_arrives_and_leaves_when_told(
    settings, connection, topic, table, shared_workbench
):
    folder = shared_workbench.home
    flow, port = flow_of(topic, table, columns={"n": "int64"}), any_free()
    program = (
        "from workbench import Settings; from workbench.flows import follow_flow; from workbench.ingestion import flow;"
        "from workbench.observability.metrics import serve_metrics;"
        f"flow.LOOK_SECONDS = 0.2; serve_metrics({port});"
        "from workbench.ingestion.definition import make_flow;"
        f"follow_flow(Settings.load(), make_flow('t', dict(topic={topic!r}, into={table!r}, columns=dict(n='int64'))), lambda k: None)"
    )
    python = COMMAND.parent / "python"
    with subprocess.Popen([python, "-c", program], env=environment(folder), stderr=subprocess.PIPE) as worker:
        for n in range(3):
            send(connection, topic, [(None, b'{"n":%d}' % n)])
            wait_until(lambda n=n: count(table) == n + 1, STARTED_SECONDS, f"record {n}")
        # Marks of a transaction that are no records leave a table fresh, and so does a quiet topic.
        with pytest.raises(ValueError, match="on purpose"), transaction(connection, f"tx-{uuid4().hex}") as producer:
            producer.produce(topic, [OutgoingRecord(b'{"n":9}', partition=0)])
            raise ValueError("on purpose")
        sent = time.time()
        wait_until(lambda: complete_at(port) > sent, 20, "the table to be fresh")
        worker.terminate()
        worker.communicate(timeout=20)
    assert is_right(settings, flow)


def complete_at(port: int) -> float:
    told = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return max(
        map(float, re.findall(r"^workbench_ingestion_complete_timestamp_seconds{.*} (\S+)$", told, re.MULTILINE))
    )


def count(table: str) -> int:
    try:
        return len(rows(table))
    except WarehouseError:  # not made yet
        return 0


def test_metrics_have_names_as_prometheus_wants_them():
    from prometheus_client import REGISTRY

    from workbench.observability import metrics

    assert metrics.INGESTED_ROWS
    names = [each.name for each in REGISTRY.collect() if each.name.startswith("workbench_")]
    assert len(names) >= 7
    assert all(re.fullmatch(r"workbench_[a-z_]+", name) for name in names)


def test_texts_that_a_table_has_no_room_for_are_dead_letters(settings, connection, topic, table):
    schema = table.partition(".")[0]
    workbench.sql(f"CREATE SCHEMA {schema}")
    workbench.sql(f"CREATE TABLE {table} (text varchar(3), _partition integer NOT NULL, _offset bigint NOT NULL)")
    send(connection, topic, [(None, b'{"text":"abc"}'), (None, b'{"text":"too long"}')])

    done = run(settings, flow_of(topic, table, columns={"text": "string"}))

    assert (done.rows, done.dead) == (1, 1)


def test_columns_that_flows_cannot_write_are_named_before_anything_is_read(settings, connection, topic, table):
    schema = table.partition(".")[0]
    workbench.sql(f"CREATE SCHEMA {schema}")
    workbench.sql(f"CREATE TABLE {table} (data jsonb, _partition integer NOT NULL, _offset bigint NOT NULL)")

    with pytest.raises(WarehouseError, match="column data is JSONB, not JSON"):
        run(settings, flow_of(topic, table, columns={"data": "json"}))


def test_verify_sees_rows_of_partitions_that_the_flow_never_had(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"n": "int64"})
    send(connection, topic, [(None, b'{"n":1}')])
    run(settings, flow)
    workbench.sql(f"INSERT INTO {table} VALUES (1, 77, 0)")

    assert [each.outside for each in verify_flow(settings, flow)] == [0, 0, 1]


def test_a_replay_leaves_partitions_alone_that_came_meanwhile(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"n": "int64"})
    send(connection, topic, [(None, b'{"n":1}')])
    run(settings, flow)

    def another_partition(_: int) -> None:
        apply_topics(connection, [Topic(name=topic, partitions=3)])
        wait_until(lambda: sent_to(connection, topic, 2), 20, "the third partition")
        assert run(settings, flow).rows == 1

    replay_flow(settings, flow, "earliest", another_partition, keep=False)

    assert is_right(settings, flow)
    assert count(table) == 2


def test_unknown_arguments_are_named(settings, topic, table):
    with pytest.raises(SettingsError, match="unknown field 'colums'"):
        workbench.ingest(topic, into=table, colums={"n": "int64"})
    with pytest.raises(SettingsError, match="the field _key has the name of a column that tells of the record"):
        workbench.ingest(topic, into=table, columns={"_key": "string"})


def test_a_tombstone_that_was_a_dead_letter_deletes_no_newer_row(settings, connection, topic, table):
    # In clear, for the key is changed by SQL.
    in_clear = settings.warehouse.model_copy(update={"encrypt_dead_letters": False})
    settings = settings.model_copy(update={"warehouse": in_clear})
    flow = flow_of(topic, table, columns={"id": "string", "v": "string"}, mode="merge", key=["id"])
    run(settings, flow)
    letters = f"{table.partition('.')[0]}.dead_letters"
    send(connection, topic, [(b"\x00", None), (b"a", b'{"id":"a","v":"new"}')])
    assert run(settings, flow).dead == 1
    workbench.sql(f"UPDATE {letters} SET record_key = 'a'")

    assert replay_flow_dead_letters(settings, flow, lambda _: None).left == 0
    assert rows(table, "id, v") == [("a", "new")]


def test_a_replay_of_a_merge_replaces_rows_from_before_the_flow(settings, connection, topic, table):
    workbench.sql(f"CREATE SCHEMA {table.partition('.')[0]}")
    workbench.sql(f"CREATE TABLE {table} (id text PRIMARY KEY, v text, _partition integer, _offset bigint)")
    flow = flow_of(topic, table, columns={"id": "string", "v": "string"}, mode="merge", key=["id"])
    send(connection, topic, [(b"a", b'{"id":"a","v":"new"}')])
    run(settings, flow)
    workbench.sql(f"DELETE FROM {table}")
    workbench.sql(f"INSERT INTO {table} (id, v) VALUES ('a', 'old'), ('b', 'old')")

    assert replay_flow(settings, flow, "earliest", lambda _: None, keep=False).rows == 2
    assert rows(table, "id, v, _offset IS NULL AS is_old") == [("a", "new", False), ("b", "old", True)]


def test_names_with_colons_and_percents_are_only_names(settings, connection, topic, table):
    odd = {":x": "int64", "100%": "string", 'a "b"': "string"}
    flow = flow_of(topic, table, columns=odd)
    run(settings, flow)
    workbench.sql(f"ALTER TABLE {table} ADD CHECK (\"100%\" <> 'no')")
    send(connection, topic, [(None, b'{":x":1,"100%":"yes"}'), (None, b'{":x":2,"100%":"no"}')])

    done = run(settings, flow)
    assert (done.rows, done.dead) == (1, 1)
    workbench.sql(f'ALTER TABLE {table} DROP CONSTRAINT "rows_100%_check"')
    wider = flow_of(topic, table, columns={**odd, ":y": "int64"})
    assert replay_flow(settings, wider, "earliest", lambda _: None, keep=True).rows == 2
    assert is_right(settings, wider)


def test_a_replay_does_not_jump_over_what_the_flow_has_not_read(settings, connection, topic, table):
    flow = flow_of(topic, table, columns={"n": "int64"})
    old = int((datetime.now(UTC) - timedelta(hours=2)).timestamp() * 1000)
    run(settings, flow)
    records = [
        OutgoingRecord(b'{"n":1}', partition=0, timestamp_milliseconds=old),
        OutgoingRecord(b'{"n":2}', partition=0),
    ]
    produce(connection, topic, records)

    with pytest.raises(WarehouseError, match="has not read partition 0 up to 1"):
        replay_flow(settings, flow, datetime.now(UTC) - timedelta(hours=1), lambda _: None, keep=False)

    run(settings, flow)
    assert is_right(settings, flow)
