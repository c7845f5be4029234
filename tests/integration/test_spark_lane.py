"""Flows that Spark brings: the same promises, the same ledger, so that a topic moves between the lanes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tests.integration.test_flows import flow_of, is_right, rows, run, send
from workbench.errors import SettingsError, StepRefused
from workbench.flows import follow_flow, open_run, spark_run
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import Flow
from workbench.ingestion.producer import OutgoingRecord, produce, transaction
from workbench.ingestion.topics import Topic, apply_topics
from workbench.inspection import lag_of_flows, read_dead_letters, verify_flow
from workbench.loading import Load, Warehouse
from workbench.settings import Settings
from workbench.spark_lane.lane import run_to_end
from workbench.warehouse.engine import make_engine

PARTITIONS = 2
LANES = ("arrow", "spark")


@pytest.fixture
def connection(settings) -> KafkaConnection:
    return KafkaConnection.from_settings(settings.kafka)


@pytest.fixture
def topic(connection) -> str:
    name = f"t-{uuid4().hex}"
    apply_topics(connection, [Topic(name=name, partitions=PARTITIONS)])
    return name


@pytest.fixture
def table() -> str:
    return f"s_{uuid4().hex}.rows"


def numbered(start: int, count: int) -> list[OutgoingRecord]:
    return [OutgoingRecord(b'{"n":%d}' % n, partition=n % PARTITIONS) for n in range(start, start + count)]


def lanes(topic: str, table: str, **fields: object) -> dict[str, Flow]:
    return {engine: flow_of(topic, table, engine=engine, **fields) for engine in LANES}


def test_a_topic_moves_between_the_lanes_with_no_gap_and_nothing_twice(settings, connection, topic, table):
    flows, sent = lanes(topic, table, columns={"n": "int64"}), 0
    for engine in ("arrow", "spark", "spark", "arrow", "spark"):
        sent += produce(connection, topic, [*numbered(sent, 999), OutgoingRecord(b"{broken", partition=1)])

        done = run(settings, flows[engine])

        assert (done.rows, done.dead) == (999, 1), engine
    assert run(settings, flows["spark"]).rows == 0
    assert is_right(settings, flows["arrow"])
    assert len({n for (n,) in rows(table, "n")}) == 5 * 999
    assert [each.value for each in read_dead_letters(settings, flows["spark"], 10, None)] == [b"{broken"] * 5


def test_merge_and_tombstones_are_those_of_the_arrow_lane(settings, connection, topic, table):
    flows = lanes(topic, table, columns={"id": "int64", "v": "string"}, mode="merge", key=["id"])
    send(connection, topic, [(b"1", b'{"id":1,"v":"a"}'), (b"2", b'{"id":2,"v":"a"}'), (b"1", b'{"id":1,"v":"b"}')])
    run(settings, flows["spark"])
    send(connection, topic, [(b"2", None), (b"3", b'{"id":3,"v":"a"}'), (None, b'{"v":"no key"}')])

    done = run(settings, flows["spark"])

    assert rows(table, "id, v") == [(1, "b"), (3, "a")]
    assert done.dead == 1
    assert is_right(settings, flows["arrow"])


def test_columns_evolve_and_metadata_can_be_columns(settings, connection, topic, table):
    flow = lanes(topic, table, columns={"a": "int16"}, contract="evolve", include=["key", "headers"])["spark"]
    headers = [("trace", b"\xff"), ("from", b"test")]
    produce(connection, topic, [OutgoingRecord(b'{"a":70000,"b":"x"}', b"key", partition=0, headers=headers)])
    run(settings, flow)
    send(connection, topic, [(b"k", b'{"a":5000000000,"b":"y"}')])
    run(settings, flow)

    found = rows(table, "a, b, convert_from(_key, 'UTF8'), _headers")
    assert found[0] == (70000, "x", "key", [["trace", {"base64": "/w=="}], ["from", "test"]])
    assert found[1][:3] == (5_000_000_000, "y", "k")
    assert is_right(settings, flow)


def test_aborted_transactions_are_not_read_and_their_marks_are_no_lag(settings, connection, topic, table):
    flow = lanes(topic, table, columns={"n": "int64"})["spark"]
    with transaction(connection, f"tx-{uuid4().hex}") as producer:
        producer.produce(topic, numbered(0, 10))
    with pytest.raises(ValueError, match="on purpose"), transaction(connection, f"tx-{uuid4().hex}") as producer:
        producer.produce(topic, numbered(10, 10))
        raise ValueError("on purpose")

    assert run(settings, flow).rows == 10
    ((_, _, lags),) = lag_of_flows(settings, flow)
    assert [each.records for each in lags] == [0, 0]
    assert is_right(settings, flow)


def test_what_is_too_much_for_one_job_is_brought_by_several(settings, connection, topic, table):
    flow = lanes(topic, table, columns={"n": "int64"})["spark"]
    produce(connection, topic, numbered(0, 1501))

    with open_run(settings, flow, lambda _: None, None) as opened:
        done = run_to_end(replace(spark_run(settings, flow, opened), round_records=300))

    assert done.rows == 1501
    assert is_right(settings, flow)


def overtaken(open_warehouse: Callable[[], Warehouse]) -> Warehouse:
    """A warehouse in which the first record is committed while a task is about to: by the try of it that was killed."""
    warehouse = open_warehouse()
    commit = warehouse.commit

    def commit_late(load: Load) -> None:
        (span,) = load.spans
        if span.start == 0:
            first = Load(
                spans=(replace(span, end=1),), rows=load.rows.slice(0, 1), dead_letters=load.dead_letters.slice(0, 0)
            )
            with open_warehouse() as other:
                other.commit(first)
        commit(load)

    warehouse.commit = commit_late
    return warehouse


def test_a_task_whose_killed_try_commits_after_all_is_no_take_over(settings, connection, topic, table):
    flow = lanes(topic, table, columns={"n": "int64"})["spark"]
    produce(connection, topic, numbered(0, 100))

    with open_run(settings, flow, lambda _: None, None) as opened:
        whole = spark_run(settings, flow, opened)
        with whole.lend_warehouse() as open_warehouse:
            late = partial(nullcontext, partial(overtaken, open_warehouse))
            run_to_end(replace(whole, lend_warehouse=late))

    assert sorted(rows(table, "n")) == [(n,) for n in range(100)]
    assert is_right(settings, flow)


@pytest.mark.parametrize("start", [run, lambda settings, flow: follow_flow(settings, flow, lambda _: None)])
def test_duckdb_is_one_process_and_is_refused(settings, topic, table, monkeypatch, start):
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")
    flow = lanes(topic, table, columns={"n": "int64"})["spark"]

    with pytest.raises(SettingsError, match="engine is spark, whose executors cannot share the file of DuckDB"):
        start(settings.model_copy(update={"warehouse": Settings.load().warehouse}), flow)


def execute(settings: Settings, statement: str) -> None:
    engine = make_engine(settings.warehouse)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def even(frame):
    """A step of one's own that leaves records out, and adds a column."""
    from pyspark.sql import functions as F

    return frame.where(F.col("n") % 2 == 0).withColumn("half", (F.col("n") / 2).cast("bigint"))


def test_steps_stand_between_decoding_and_writing_and_what_they_leave_out_is_counted(
    settings, topic, table, connection
):
    steps = [even, {"conform": {"schema": {"half": "int", "text": "string"}, "rename": {"t": "text"}, "extra": "drop"}}]
    flow = flow_of(topic, table, engine="spark", columns={"n": "int64", "t": "json"}, steps=steps)
    good = [OutgoingRecord(b'{"n":%d,"t":{"a":%d}}' % (n, n), partition=n % PARTITIONS) for n in range(1000)]
    produce(connection, topic, [*good, OutgoingRecord(b"{broken", b"key", partition=1)])

    done = run(settings, flow)

    assert (done.rows, done.dead, done.filtered) == (500, 1, 500)
    assert rows(table, "half") == [(n,) for n in range(500)]
    assert [(each.key, each.value) for each in read_dead_letters(settings, flow, 10, None)] == [(b"key", b"{broken")]
    reports = verify_flow(settings, flow)
    assert all(each.is_right for each in reports), reports
    assert [each.filtered for each in reports] == [0, 500]
    # All of these are left out: the offsets move on all the same, and a row that is lost is still found.
    produce(connection, topic, [OutgoingRecord(b'{"n":%d}' % n, partition=0) for n in range(1, 99, 2)])
    assert (run(settings, flow).filtered, run(settings, flow).filtered) == (49, 0)
    execute(settings, f"DELETE FROM {table} WHERE half = 7")
    assert sum(each.missing for each in verify_flow(settings, flow)) == 1


def test_steps_see_and_change_metadata_and_rows_that_the_table_refuses_are_letters_with_their_bytes(
    settings, connection, topic, table
):
    masked = [{"mask": {"rules": {"_key": "removed", "name": {"last_characters": 2}}}}, even]
    flow = flow_of(
        topic, table, engine="spark", columns={"n": "int64", "name": "string"}, include=["key"], steps=masked
    )
    produce(connection, topic, [OutgoingRecord(b'{"n":2,"name":"Anna"}', b"secret", partition=0)])
    run(settings, flow)
    execute(settings, f"ALTER TABLE {table} ADD CHECK (n <> 4)")
    produce(connection, topic, [OutgoingRecord(b'{"n":%d,"name":"x"}' % n, b"k", partition=0) for n in (3, 4, 6)])

    done = run(settings, flow)

    assert (done.rows, done.dead, done.filtered) == (1, 1, 1)
    assert rows(table, "n, name, _key, half") == [(2, "***na", None, 1), (6, "***", None, 3)]
    assert [each.value for each in read_dead_letters(settings, flow, 10, None)] == [b'{"n":4,"name":"x"}']
    assert is_right(settings, flow)


def test_steps_go_with_a_merge(settings, connection, topic, table):
    flow = flow_of(
        topic, table, engine="spark", columns={"id": "int64", "n": "int64"}, mode="merge", key=["id"], steps=[even]
    )
    records = [(b"1", b'{"id":1,"n":2}'), (b"2", b'{"id":2,"n":2}'), (b"1", b'{"id":1,"n":3}'), (b"2", None)]
    send(connection, topic, records)

    run(settings, flow)

    assert rows(table, "id, n") == [(1, 2)]  # what a step leaves out changes nothing
    assert is_right(settings, flow)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (lambda frame: frame.dropDuplicates(["n"]), "it has 'deduplicate' in its plan"),
        (lambda frame: frame.selectExpr("*", "sum(n) OVER (PARTITION BY n) AS s"), "it has a window function"),
        (lambda frame: frame.select("n"), "the steps drop or change _partition"),
        (lambda frame: frame.selectExpr("*", "explode(array(1, 2)) AS twice"), "several rows for offset 0"),
        (lambda frame: frame.withColumn("_offset", frame["_offset"] + 7), "a row for offset 7 of partition 0"),
    ],
)
def test_steps_that_do_not_look_at_each_row_by_itself_are_refused(settings, connection, topic, table, step, told):
    produce(connection, topic, numbered(0, 1))
    flow = flow_of(topic, table, engine="spark", columns={"n": "int64"}, steps=[step])

    with pytest.raises(StepRefused, match=told):
        run(settings, flow)
