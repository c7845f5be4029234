from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.kafka_frames import kafka_batch
from workbench.errors import (
    KafkaError,
    KafkaUnavailable,
    NoSuchTopic,
    RowsRefused,
    SettingsError,
    StepRefused,
    WarehouseError,
)
from workbench.ingestion.batch import BatchLimits
from workbench.ingestion.cluster import watermarks
from workbench.ingestion.cluster.watermarks import TopicState
from workbench.ingestion.loads import LoadBuilder
from workbench.ingestion.stalled import Stalled
from workbench.loading import Span, Target, Warehouse
from workbench.sections import WarehouseSettings
from workbench.spark_lane import lane
from workbench.spark_lane.ranges import plan_round, refuse_lost_records
from workbench.spark_lane.records import make_batch, pieces
from workbench.spark_lane.tasks import met, report_error
from workbench.transformation.failures import telling_line
from workbench.warehouse.dialects import make_warehouse

offsets_of_partitions = st.dictionaries(st.integers(0, 5), st.integers(0, 1000), max_size=6)


@given(starts=offsets_of_partitions, ends=offsets_of_partitions, most=st.integers(1, 300))
def test_a_round_covers_what_is_new_and_no_more_than_it_may(starts, ends, most):
    round_ = plan_round("t", {each: (start, 7) for each, start in starts.items()}, ends, most=most)

    behind = {each for each, start in starts.items() if ends.get(each, 0) > start}
    assert {span.partition for span in (round_.spans if round_ else ())} == behind
    for span in round_.spans if round_ else ():
        assert span.epoch == 7
        assert span.start == starts[span.partition]
        assert span.end == min(ends[span.partition], span.start + most)


@given(starts=st.dictionaries(st.integers(0, 3), st.integers(0, 50), min_size=1), most=st.integers(1, 20))
def test_rounds_after_each_other_end_where_the_topic_ends(starts, most):
    ends = {each: start + 30 for each, start in starts.items()}
    positions = {each: (start, 1) for each, start in starts.items()}
    covered: dict[int, list[int]] = {each: [] for each in starts}
    while round_ := plan_round("t", positions, ends, most=most):
        for span in round_.spans:
            covered[span.partition] += range(span.start, span.end)
            positions[span.partition] = (span.end, 1)

    assert covered == {each: list(range(start, ends[each])) for each, start in starts.items()}


def test_spark_is_told_exact_offsets():
    round_ = plan_round("flights", {0: (3, 1), 1: (5, 1)}, {0: 9, 1: 5}, most=100)

    assert round_ is not None
    options = round_.source_options()
    assert json.loads(options["assign"]) == {"flights": [0]}
    assert json.loads(options["startingOffsets"]) == {"flights": {"0": 3}}
    assert json.loads(options["endingOffsets"]) == {"flights": {"0": 9}}
    assert options["failOnDataLoss"] == "true"
    assert options["kafka.isolation.level"] == "read_committed"


def test_what_kafka_has_removed_is_not_passed_over():
    refuse_lost_records("t", {0: (5, 1)}, {0: 5})
    with pytest.raises(KafkaError, match="partition 1 of t begins at offset 9; the warehouse asks for 8"):
        refuse_lost_records("t", {0: (5, 1), 1: (8, 1)}, {0: 0, 1: 9})


def test_who_has_read_further_than_the_topic_goes_does_not_go_on(monkeypatch):
    asked: list[dict[int, int]] = []
    monkeypatch.setattr(watermarks, "_log_ends", lambda *args: asked.append(args[2]) or {0: 9, 1: 7})
    connection: Any = None

    watermarks.refuse_cut_off(connection, "t", {0: 5, 1: 8}, {0: 5, 1: 8})
    assert asked == []
    watermarks.refuse_cut_off(connection, "t", {0: 9}, {0: 4})  # a transaction is open at 4
    with pytest.raises(KafkaError, match="partition 1 of t ends at offset 7, but has been ingested up to 8"):
        watermarks.refuse_cut_off(connection, "t", {0: 5, 1: 8}, {0: 5})


def test_an_offset_that_is_refused_was_removed_only_where_the_partition_begins_behind_it(monkeypatch):
    state = watermarks.TopicState(cluster_id="c", topic_id="t", first_offsets={0: 5}, next_offsets={0: 7})
    monkeypatch.setattr(watermarks, "read_topic_state", lambda *_: state)
    connection: Any = None

    removed = watermarks.offset_missing(connection, "t", 0, 3)
    assert removed.message == "partition 0 of t begins at offset 5; the warehouse asks for 3"
    assert "retention" in removed.remedy
    beyond = watermarks.offset_missing(connection, "t", 0, 9)
    assert isinstance(beyond, KafkaUnavailable)  # a worker begins again, and is told why
    assert "refused the offset 9 of partition 0 of t, whose records are 5 to 7" in beyond.message


@given(
    offsets=st.lists(st.integers(0, 200), min_size=1, unique=True).map(sorted),
    start=st.integers(0, 250),
    records=st.integers(1, 50),
)
def test_a_task_that_runs_again_goes_on_where_the_ledger_says(offsets, start, records):
    batches = [kafka_batch(3, offsets[at : at + 7]) for at in range(0, len(offsets), 7)]
    positions, seen, at = {3: start}, [], start

    for table in pieces(iter(batches), BatchLimits(records=records)):
        batch = make_batch(table, positions, {3: 4})
        (span,) = batch.spans
        assert (span.start, span.epoch) == (at, 4)
        at = span.end
        seen += batch.offsets.tolist()
        assert [message.offset() for message in batch.messages] == batch.offsets.tolist()

    assert seen == [each for each in offsets if each >= start]
    assert at == max(start, offsets[-1] + 1)


def test_several_partitions_of_one_table_keep_their_own_positions():
    table = pa.Table.from_batches([kafka_batch(0, [4, 5]), kafka_batch(1, [0, 2, 3])])

    batch = make_batch(table, {0: 5, 1: 0}, {0: 2, 1: 9})

    assert batch.spans == (Span(0, 5, 6, 2), Span(1, 0, 4, 9))
    assert list(zip(batch.partitions.tolist(), batch.offsets.tolist(), strict=True)) == [(0, 5), (1, 0), (1, 2), (1, 3)]


def test_records_have_what_dead_letters_keep():
    batch = make_batch(pa.Table.from_batches([kafka_batch(2, [7], value=b"\xff\x00")]), {2: 7}, {2: 1})

    (message,) = batch.messages
    assert (message.key(), message.value(), message.partition(), message.offset()) == (b"k7", b"\xff\x00", 2, 7)
    assert message.timestamp() == (1, 1_700_000_000_007)
    assert message.headers() == [("h", b"v"), ("none", None)]


def test_a_tombstone_has_no_value():
    batch = make_batch(pa.Table.from_batches([kafka_batch(0, [0], value=None)]), {0: 0}, {0: 1})

    assert batch.values == [None]
    assert batch.messages[0].value() is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[TABLE_OR_VIEW_NOT_FOUND] no such table\n'Project [*]\n", "[TABLE_OR_VIEW_NOT_FOUND] no such table"),
        (
            "An exception\nTraceback (most recent call last):\n  File x\nValueError: 3 is odd\n\nat org.apache",
            "ValueError: 3 is odd",
        ),
        ("", "Exception"),
    ],
)
def test_of_an_exception_of_spark_the_line_that_tells_is_shown(text, line):
    assert telling_line(Exception(text)) == line


def topic_state(end: int, cluster: str = "cluster", topic: str = "old") -> TopicState:
    return TopicState(cluster_id=cluster, topic_id=topic, first_offsets={0: 0, 1: 0}, next_offsets={0: end, 1: 0})


def begun(warehouse: Warehouse, target: Target, start: str) -> lane.Driver:
    run: Any = SimpleNamespace(
        connection=None,
        topic="t",
        start=start,
        settle=lambda: None,
        warehouse=warehouse,
        columns=pa.schema([pa.field("n", pa.int64())]),
        loads=LoadBuilder(target, (), pa.schema([])),
    )
    nothing: Any = None
    driver = lane.Driver(lane.SparkRun(run=run, lend_warehouse=nothing, open_session=nothing))
    driver.begin()
    return driver


def test_a_topic_that_was_cut_off_between_two_rounds_ends_the_flow(monkeypatch, tmp_path):
    chosen = WarehouseSettings.model_validate({"WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}).at(tmp_path)
    target = Target(table="s.rows", topic="t")
    states = [topic_state(5), topic_state(5), topic_state(3)]
    monkeypatch.setattr(lane, "read_topic_state", lambda *_: states.pop(0))
    monkeypatch.setattr(watermarks, "_log_ends", lambda *_: {0: 3})
    with make_warehouse(chosen, target) as warehouse:
        driver = begun(warehouse, target, "latest")

        assert not driver.advance(driver.look().next_offsets)
        with pytest.raises(KafkaError, match="ends at offset 3, but has been ingested up to 5"):
            driver.advance(driver.look().next_offsets)


@pytest.mark.parametrize("identity", [("another cluster", "old"), ("cluster", "new")])
def test_a_topic_that_was_made_anew_between_two_rounds_is_refused_as_at_the_start(monkeypatch, tmp_path, identity):
    chosen = WarehouseSettings.model_validate({"WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}).at(tmp_path)
    target = Target(table="s.rows", topic="t")
    states = [topic_state(0), topic_state(5), topic_state(3, *identity)]
    monkeypatch.setattr(lane, "read_topic_state", lambda *_: states.pop(0))
    with make_warehouse(chosen, target) as warehouse:
        driver = begun(warehouse, target, "earliest")

        assert driver.look().next_offsets == {0: 5, 1: 0}
        with pytest.raises(WarehouseError, match="the topic was made anew"):
            driver.look()

        assert {each.epoch for each in warehouse.claim("cluster", "old", {0: 0, 1: 0})} == {2}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Stalled("no record comes"), KafkaUnavailable),
        (NoSuchTopic("no topic"), KafkaError),
        (RowsRefused("a row", reasons={}), WarehouseError),
        (StepRefused("a step"), StepRefused),
        (SettingsError(["a setting"]), WarehouseError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_the_error_of_a_task_is_of_its_kind_in_the_driver(error, kind):
    (row,) = report_error(error).to_pylist()

    found = met(row)

    assert type(found) is kind
    assert found.message == error.message
