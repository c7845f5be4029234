"""The steps, on the Connect server that `workbench up` starts, and once more on classic PySpark.

TEST_STEPS_SPARK=classic runs all of this in a session of its own process; the last test does so.
"""

from __future__ import annotations

import hmac
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import SecretStr

import workbench
from workbench.embedded.java import find_java
from workbench.errors import StepRefused
from workbench.resources import resource
from workbench.transformation.steps import (
    Hashed,
    LastCharacters,
    Removed,
    Truncated,
    aggregate_sessions,
    aggregate_windows,
    conform,
    dedupe,
    dedupe_stream,
    enrich,
    join_as_of,
    mask,
    pseudonym,
    sessionize,
    update_history,
)

CLASSIC = os.environ.get("TEST_STEPS_SPARK") == "classic"
SECRET = SecretStr("correct horse battery staple")
AWAIT_SECONDS = 100

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
# An example runs a query, and brings many keys along: few examples try many cases.
few = examples(
    max_examples=3 if CLASSIC else 12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="session")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from pyspark.sql import SparkSession

    os.environ["JAVA_HOME"] = str(find_java().home)
    builder = SparkSession.builder.master("local[1]").appName("steps")
    options = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.host": "localhost",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("tables")),
    }
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture
def spark(request: pytest.FixtureRequest) -> Iterator[Any]:
    if CLASSIC:
        yield request.getfixturevalue("classic")
        return
    request.getfixturevalue("settings")
    session = workbench.spark()
    yield session
    session.stop()


def table(spark: Any, schema: str, rows: Sequence[tuple[object, ...]]) -> Any:
    """A frame whose columns of type `timestamp` are given in seconds since 1970."""
    import pyarrow as pa

    if not rows:
        return spark.createDataFrame([], schema)
    kinds = {"int": pa.int32(), "bigint": pa.int64(), "string": pa.string(), "boolean": pa.bool_(), "date": pa.date32()}
    fields = [field.split() for field in schema.split(",")]
    columns = {
        name: pa.array([row[n] for row in rows], kinds.get(kind)) if kind in kinds else _times(rows, n)
        for n, (name, kind) in enumerate(fields)
    }
    return spark.createDataFrame(pa.table(columns))


def _times(rows: Sequence[tuple[Any, ...]], number: int) -> Any:
    import pyarrow as pa

    micros = [None if row[number] is None else row[number] * 1_000_000 for row in rows]
    return pa.array(micros, pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def seconds(frame: Any) -> Any:
    """The frame with its timestamps in seconds since 1970, which do not depend on any time zone."""
    from pyspark.sql import functions as F

    return frame.select(
        *(
            (
                F.unix_seconds(f"`{field.name}`")
                if field.dataType.typeName() == "timestamp"
                else F.col(f"`{field.name}`")
            ).alias(field.name)
            for field in frame.schema.fields
        )
    )


def told(frame: Any) -> list[tuple[Any, ...]]:
    """The rows in an order of their own."""
    return sorted((tuple(row) for row in seconds(frame).collect()), key=by_value)


def by_value(row: Sequence[Any]) -> list[Any]:
    return [(value is not None, value) for value in row]


class Streams:
    """Streams whose batches are given one by one, and what comes out of them."""

    def __init__(self, spark: Any, folder: Path) -> None:
        self.spark, self.folder = spark, folder

    def make(self, *batches: Any) -> Any:
        folder = self.folder / uuid4().hex
        for batch in batches:
            batch.coalesce(1).write.mode("append").parquet(str(folder))
        reader = self.spark.readStream.schema(batches[0].schema).option("maxFilesPerTrigger", 1)
        return reader.parquet(str(folder))

    def run(self, stream: Any, mode: str = "append") -> list[tuple[Any, ...]]:
        name = f"q_{uuid4().hex}"
        query = (
            stream.writeStream.format("memory")
            .queryName(name)
            .outputMode(mode)
            .option("checkpointLocation", str(self.folder / name))
            .trigger(availableNow=True)
            .start()
        )
        assert query.awaitTermination(AWAIT_SECONDS), query.status
        return told(self.spark.table(name))


@pytest.fixture
def streams(spark, tmp_path) -> Streams:
    return Streams(spark, tmp_path)


def explained(frame: Any, mode: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    frame.explain(mode=mode)
    return capsys.readouterr().out


def failure(frame: Any) -> str:
    """The text of the error with which the query ends."""
    from pyspark.errors import PySparkException

    with pytest.raises(PySparkException) as caught:
        frame.collect()
    return str(caught.value)


# conform


def test_columns_are_chosen_renamed_ordered_and_cast(spark):
    frame = table(spark, "ts string, id string, junk int", [("2026-01-02 03:04:05", "7", 1)])

    result = frame.transform(
        conform,
        {"id": "bigint", "at": "timestamp", "note": "string"},
        rename={"ts": "at"},
        extra="drop",
        missing="null",
    )

    assert [(field.name, field.dataType.simpleString()) for field in result.schema.fields] == [
        ("id", "bigint"),
        ("at", "timestamp"),
        ("note", "string"),
    ]
    assert told(result) == [(7, 1767323045, None)]


def test_all_differences_to_the_schema_are_one_error(spark):
    frame = table(spark, "a int, b int, c int", [])

    with pytest.raises(StepRefused, match="missing: x, y; not in the schema: b, c") as caught:
        frame.transform(conform, {"x": "int", "a": "int", "y": "int"})

    assert "rename" in caught.value.remedy


@pytest.mark.parametrize("ansi", ["true", "false"])
def test_a_value_that_does_not_fit_ends_the_query_or_is_null(spark, ansi):
    frame = table(spark, "n string", [("1",), (None,), ("secret",), ("99999999999",)])
    before = spark.conf.get("spark.sql.ansi.enabled")
    spark.conf.set("spark.sql.ansi.enabled", ansi)
    try:
        message = failure(frame.transform(conform, {"n": "int"}))
        nulled = told(frame.transform(conform, {"n": "int"}, invalid="null"))
    finally:
        spark.conf.set("spark.sql.ansi.enabled", before)

    assert "conform: a value of n is no int" in message
    assert "secret" not in message
    assert nulled == [(None,), (None,), (None,), (1,)]


def test_a_schema_that_forbids_nulls_is_kept(spark):
    from pyspark.sql.types import IntegerType, StructField, StructType

    schema = StructType([StructField("n", IntegerType(), nullable=False)])

    assert told(table(spark, "n string", [("1",)]).transform(conform, schema)) == [(1,)]
    assert "n is null" in failure(table(spark, "n int", [(1,), (None,)]).transform(conform, schema))
    with pytest.raises(StepRefused, match="missing and not nullable: n"):
        table(spark, "m int", []).transform(conform, schema, missing="null", extra="drop")


def test_what_cannot_be_cast_at_all_is_told_before_the_query_runs(spark):
    with pytest.raises(StepRefused):
        table(spark, "n int", []).transform(conform, {"n": "array<int>"})
    with pytest.raises(StepRefused, match="a type that Spark does not know"):
        table(spark, "n int", []).transform(conform, {"n": "integre"})
    with pytest.raises(StepRefused, match="several columns"):
        table(spark, "n int, m int", []).transform(conform, {"n": "int"}, rename={"m": "n"})


def test_structs_are_not_cast_to_other_field_names(spark):
    frame = spark.createDataFrame([], "s array<struct<a:int,b:int>>")

    with pytest.raises(StepRefused, match="the fields of s are a, b, not b, a"):
        frame.transform(conform, {"s": "array<struct<b:int,a:int>>"})
    assert frame.transform(conform, {"s": "array<struct<a:bigint,b:string>>"}).count() == 0


# dedupe

KEYED_ROWS = st.lists(
    st.tuples(
        st.sampled_from([*"abcdefgh", None]),
        st.one_of(st.none(), st.integers(0, 3)),
        st.one_of(st.none(), st.integers(0, 3)),
        st.one_of(st.none(), st.sampled_from(["x", "y"])),
    ),
    max_size=60,
)


@few
@given(rows=KEYED_ROWS, seed=st.randoms(use_true_random=False))
def test_the_latest_and_the_earliest_row_are_kept_whatever_the_order(spark, rows, seed):
    shuffled = seed.sample(rows, len(rows))
    for keep, best in (("latest", max), ("earliest", min)):
        expected: dict[Any, tuple[Any, ...]] = {}
        for row in rows:
            # Nulls come last in both directions; a tie is decided by the columns after the time.
            expected[row[0]] = best(
                expected.get(row[0], row),
                row,
                key=lambda each, best=best: [((value is None) == (best is min), str(value or 0)) for value in each[1:]],
            )
        frame = table(spark, "k string, at timestamp, n int, s string", shuffled).repartition(3)

        result = told(frame.transform(dedupe, key="k", by="at", keep=keep))

        assert result == sorted(expected.values(), key=by_value)


def test_several_columns_may_say_what_is_later(spark):
    frame = table(spark, "k int, at timestamp, n int", [(1, 5, 1), (1, 5, 2), (1, 4, 9)])

    assert told(frame.transform(dedupe, key=["k"], by=["at", "n"])) == [(1, 5, 2)]


def test_rows_with_values_that_have_no_order_are_deduped(spark):
    frame = spark.createDataFrame([(1, {"a": 1}), (1, {"b": 2}), (1, {"a": 3})], "k int, m map<string,int>")

    results = [frame.repartition(n).transform(dedupe, key="k", by="k").collect() for n in (1, 2, 3)]

    assert [result[0].m for result in results] == [{"b": 2}] * 3


def test_only_one_row_of_each_key_is_shuffled(spark, capsys):
    frame = table(spark, "k int, at timestamp", [(1, 1), (1, 2)])

    assert "WindowGroupLimit" in explained(frame.transform(dedupe, key="k", by="at"), "simple", capsys)


def test_a_stream_keeps_what_comes_first_within_the_watermark(spark, streams):
    schema = "k string, at timestamp, n int"
    batches = [
        [("a", 100, 1), ("b", 101, 1)],
        [("a", 105, 2), ("c", 102, 1)],
        [("z", 5000, 1)],
        [("z", 5001, 2)],  # Spark calls rows late by the watermark before the last batch
        [("a", 4990, 3), ("b", 10, 9)],
    ]
    stream = streams.make(*(table(spark, schema, batch) for batch in batches))

    result = streams.run(stream.transform(dedupe_stream, key="k", by="at", watermark="1 minute"))

    # A key is forgotten when the watermark has passed it; what is older than the watermark is dropped.
    assert result == [("a", 100, 1), ("a", 4990, 3), ("b", 101, 1), ("c", 102, 1), ("z", 5000, 1)]


# sessions


@few
@given(
    rows=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 60)), max_size=60),
    gap=st.integers(1, 15),
)
def test_sessions_are_those_of_session_window(spark, rows, gap):
    from pyspark.sql import functions as F

    frame = table(spark, "k string, at timestamp", rows)

    mine = frame.transform(sessionize, key="k", by="at", gap=f"{gap} seconds")
    grouped = mine.groupBy("k", "session_id", "session_start").agg(F.max("at").alias("last"), F.count("*").alias("n"))
    counted = frame.transform(
        aggregate_sessions, by="at", gap=f"{gap} seconds", key="k", aggregates={"n": F.count("*")}
    )

    assert sorted((k, start, last + gap, n) for k, _, start, last, n in told(grouped)) == told(counted)


def test_a_session_id_stays_and_tells_keys_apart(spark):
    schema, keys = "a string, b string, at timestamp", ["a", "b"]
    early = [("x", "yz", 10), ("xy", "z", 10), (None, "z", 10), ("x", "yz", None)]
    first = table(spark, schema, early).transform(sessionize, key=keys, by="at", gap="5 seconds")
    second = table(spark, schema, [*early, ("x", "yz", 14), ("x", "yz", 30)])
    second = second.transform(sessionize, key=keys, by="at", gap="5 seconds")

    ids = {row[:3]: row[3] for row in told(first)}
    later = {row[:3]: row[3] for row in told(second)}
    assert {row: later[row] for row in ids} == ids
    assert len({each for each in ids.values() if each}) == 3
    assert ids["x", "yz", None] is None
    assert later["x", "yz", 14] == ids["x", "yz", 10] != later["x", "yz", 30]


def test_a_pause_is_as_long_in_the_night_when_the_clocks_change(spark):
    # 2026-10-25: 00:30 UTC is 02:30 in summer time, 01:30 UTC is 02:30 again.
    frame = table(spark, "k int, at timestamp", [(1, 1792888200), (1, 1792888200 + 3600)])
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        starts = {row[3] for row in told(frame.transform(sessionize, key="k", by="at", gap="59 minutes"))}
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)

    assert starts == {1792888200, 1792888200 + 3600}


# windows


def test_windows_follow_each_other_or_overlap(spark):
    from pyspark.sql import functions as F

    frame = table(
        spark, "k string, at timestamp, v int", [("a", 0, 1), ("a", 9, 2), ("a", 10, 4), ("b", 25, 8), ("b", None, 9)]
    )
    total = {"total": F.sum("v"), "n": F.count("*")}

    assert told(frame.transform(aggregate_windows, by="at", length="10 seconds", key="k", aggregates=total)) == [
        ("a", 0, 10, 3, 2),
        ("a", 10, 20, 4, 1),
        ("b", 20, 30, 8, 1),
    ]
    assert told(
        frame.where("k = 'a'").transform(
            aggregate_windows, by="at", length="10 seconds", slide="5 seconds", aggregates=total
        )
    ) == [(-5, 5, 1, 1), (0, 10, 3, 2), (5, 15, 6, 2), (10, 20, 4, 1)]


def test_a_stream_gives_the_windows_of_a_batch(spark, streams):
    from pyspark.sql import functions as F

    schema = "k string, at timestamp, v int"
    batches = [
        [("a", 3, 1), ("b", 8, 1)],
        [("a", 12, 2), ("a", 5, 4)],
        [("a", 1000, 0)],
        [("a", 1001, 0)],  # Spark calls rows late by the watermark before the last batch
        [("a", 6, 100), ("a", 2000, 0)],
    ]
    frames = [table(spark, schema, batch) for batch in batches]
    arguments = {"by": "at", "length": "10 seconds", "key": "k", "aggregates": {"total": F.sum("v")}}

    result = streams.run(streams.make(*frames).transform(aggregate_windows, **arguments, watermark="20 seconds"))

    # The row of second 6 comes when its window is closed; windows that are open at the end stay in the state.
    assert result == [("a", 0, 10, 5), ("a", 10, 20, 2), ("a", 1000, 1010, 0), ("b", 0, 10, 1)]
    batch = frames[0].unionAll(frames[1]).transform(aggregate_windows, **arguments, watermark="20 seconds")
    assert told(batch) == [row for row in result if row[1] < 1000]


def test_a_stream_gives_the_sessions_of_a_batch(spark, streams):
    from pyspark.sql import functions as F

    schema = "k string, at timestamp"
    batches = [[("a", 3), ("b", 8)], [("a", 20), ("a", 11)], [("c", 1000)]]
    frames = [table(spark, schema, batch) for batch in batches]
    arguments = {"by": "at", "gap": "10 seconds", "key": "k", "aggregates": {"n": F.count("*")}}

    result = streams.run(streams.make(*frames).transform(aggregate_sessions, **arguments, watermark="20 seconds"))

    assert result == [("a", 3, 30, 3), ("b", 8, 18, 1)]


def test_a_watermark_is_asked_for_once(spark, streams):
    from pyspark.sql import functions as F

    stream = streams.make(table(spark, "k string, at timestamp", [("a", 1)]))
    arguments = {"by": "at", "length": "10 seconds", "aggregates": {"n": F.count("*")}}

    with pytest.raises(StepRefused, match="has no watermark"):
        stream.transform(aggregate_windows, **arguments)
    marked = stream.withWatermark("at", "1 minute")
    assert marked.transform(aggregate_windows, **arguments).isStreaming
    with pytest.raises(StepRefused, match="has a watermark already"):
        marked.transform(aggregate_windows, **arguments, watermark="1 minute")


def test_windows_that_would_leave_rows_out_are_refused(spark):
    frame = table(spark, "at timestamp, n int", [])

    with pytest.raises(StepRefused, match="slide 20 seconds is longer than the window"):
        frame.transform(aggregate_windows, by="at", length="10 seconds", slide="20 seconds", aggregates={"n": 1})
    with pytest.raises(
        StepRefused, match=r"n of the frame is int, not a timestamp; length: '1 month'.*aggregates` is empty"
    ):
        frame.transform(aggregate_windows, by="n", length="1 month", aggregates={})


# history

CHANGES = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.integers(0, 8),
        st.one_of(st.none(), st.integers(1, 2)),
        st.sampled_from([None, False, False, True]),
    ),
    max_size=40,
)
CHANGE_SCHEMA = "k string, at timestamp, v int, gone boolean"
HISTORY_SCHEMA = "k string, v int, valid_from timestamp, valid_to timestamp, is_current boolean"


def modelled(history: list[tuple[Any, ...]], changes: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """What `update_history` promises, key by key and instant by instant."""
    result = []
    for key in {row[0] for row in [*history, *changes]}:
        at: dict[int, tuple[Any, ...] | None] = {}
        at |= {row[3]: None for row in history if row[0] == key and row[3] is not None}
        at |= {row[2]: (row[1],) for row in history if row[0] == key}
        mine = [(when, not gone, value) for name, when, value, gone in changes if name == key]
        # The last one put in counts: live after deleted, greater after smaller, null the smallest.
        for when, live, value in sorted(mine, key=lambda row: (row[0], row[1], row[2] or 0)):
            at[when] = (value,) if live else None
        versions: list[list[Any]] = []
        state: tuple[Any, ...] | None = None
        for when in sorted(at):
            if at[when] == state:
                continue
            if state is not None:
                versions[-1][1] = when
            state = at[when]
            if state is not None:
                versions.append([when, None, state[0]])
        result += [(key, value, start, end, end is None) for start, end, value in versions]
    return sorted(result, key=by_value)


def updated(spark: Any, changes: list[tuple[Any, ...]], history: list[tuple[Any, ...]] | None) -> list[tuple[Any, ...]]:
    frame = table(spark, CHANGE_SCHEMA, changes)
    old = None if history is None else table(spark, HISTORY_SCHEMA, history)
    return told(frame.transform(update_history, old, key="k", by="at", deleted="gone"))


@few
@given(batches=st.lists(CHANGES, min_size=1, max_size=3))
def test_a_history_is_that_of_the_model_and_the_same_when_applied_twice(spark, batches):
    history: list[tuple[Any, ...]] | None = None
    for batch in batches:
        expected = modelled(history or [], batch)
        history = updated(spark, batch, history)
        assert history == expected
    assert updated(spark, batches[-1], history) == history


@few
@given(changes=CHANGES, cut=st.integers(0, 9))
def test_changes_in_order_of_time_make_the_history_of_all_at_once(spark, changes, cut):
    early, late = ([row for row in changes if (row[1] < cut) == first] for first in (True, False))

    assert updated(spark, late, updated(spark, early, None)) == updated(spark, changes, None)


def test_a_late_change_finds_its_place(spark):
    history = updated(spark, [("a", 10, 1, None), ("a", 30, 2, None), ("a", 50, None, True)], None)
    assert history == [("a", 1, 10, 30, False), ("a", 2, 30, 50, False)]

    assert updated(spark, [("a", 20, 3, None), ("a", 60, 2, None), ("a", 5, 1, None)], history) == [
        ("a", 1, 5, 20, False),
        ("a", 2, 30, 50, False),
        ("a", 2, 60, None, True),
        ("a", 3, 20, 30, False),
    ]


def test_a_change_without_key_or_time_ends_the_query(spark):
    for row, name in (((None, 1, 1, None), "k"), (("a", None, 1, None), "at")):
        frame = table(spark, CHANGE_SCHEMA, [row]).transform(update_history, key="k", by="at", deleted="gone")
        assert f"{name} of a change is null" in failure(frame)


def test_a_history_that_does_not_fit_is_told_whole(spark):
    changes = table(spark, "k string, at timestamp, v int, new int", [])
    history = table(
        spark, "k string, v string, old int, valid_from timestamp, valid_to timestamp, is_current boolean", []
    )

    with pytest.raises(StepRefused, match=r"lacks new \(int\); the changes lack old \(int\); v is string .*, not int"):
        changes.transform(update_history, history, key="k", by="at")
    with pytest.raises(StepRefused, match="valid_to"):
        table(spark, "k int, at timestamp, valid_to int", []).transform(update_history, key="k", by="at")
    with pytest.raises(StepRefused, match="gone is int, not boolean"):
        table(spark, "k int, at timestamp, gone int", []).transform(update_history, key="k", by="at", deleted="gone")


def test_values_without_an_order_have_a_history(spark):
    from pyspark.sql import functions as F

    rows = [(1, 10, {"a": 1}), (1, 20, {"a": 1}), (1, 30, {"a": 2})]
    frame = spark.createDataFrame(rows, "k int, at int, m map<string,int>").withColumn("at", F.timestamp_seconds("at"))

    first = frame.transform(update_history, key="k", by="at")
    second = frame.transform(update_history, first, key="k", by="at")

    for result in (first, second):
        found = seconds(result).orderBy("valid_from").collect()
        assert [(row.m, row.valid_from, row.valid_to) for row in found] == [({"a": 1}, 10, 30), ({"a": 2}, 30, None)]


def test_a_history_is_made_with_one_shuffle(spark, capsys):
    changes = table(spark, CHANGE_SCHEMA, [("a", 1, 1, None)])
    history = table(spark, HISTORY_SCHEMA, [("a", 1, 0, None, True)])

    plan = explained(changes.transform(update_history, history, key="k", by="at", deleted="gone"), "simple", capsys)

    assert plan.count("Exchange hashpartitioning") == 1
    assert plan.count("- Sort ") == 1


@pytest.mark.skipif(CLASSIC, reason="the warehouse is reached through Connect")
def test_a_history_lives_in_the_warehouse(spark):
    name = f"s_{uuid4().hex}.customers"
    batches = [[("a", 10, 1, None), ("b", 10, 1, None)], [("a", 20, 2, None)], [("b", 15, None, True)]]
    for number, batch in enumerate(batches):
        changes = table(spark, CHANGE_SCHEMA, batch)
        old = workbench.load_table(name) if number else None
        workbench.save_table(changes.transform(update_history, old, key="k", by="at", deleted="gone"), name)

    assert told(workbench.load_table(name)) == [
        ("a", 1, 10, 20, False),
        ("a", 2, 20, None, True),
        ("b", 1, 10, 15, False),
    ]


# joins

LEFT_ROWS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 20)), min_size=1, max_size=40)
RIGHT_ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 20), st.integers(0, 9)), min_size=1, max_size=40
)


@few
@given(left=LEFT_ROWS, right=RIGHT_ROWS, tolerance=st.one_of(st.none(), st.integers(0, 6)), exact=st.booleans())
def test_an_as_of_join_is_that_of_pandas(spark, left, right, tolerance, exact):
    import pandas as pd

    mine = pd.DataFrame([(n, *row) for n, row in enumerate(left)], columns=["n", "k", "at"]).sort_values("at")
    theirs = pd.DataFrame(right, columns=["k", "since", "v"]).sort_values(["since", "v"])
    options = {"by": "k", "left_on": "at", "right_on": "since", "tolerance": tolerance, "allow_exact_matches": exact}
    joined = pd.merge_asof(mine, theirs, **options)
    expected = [
        (row.n, row.k, row.at, None if pd.isna(row.v) else int(row.since), None if pd.isna(row.v) else int(row.v))
        for row in joined.itertuples()
    ]

    result = table(spark, "n int, k string, at timestamp", [(n, *row) for n, row in enumerate(left)]).transform(
        join_as_of,
        table(spark, "k string, since timestamp, v int", right).repartition(2),
        by="at",
        right_by="since",
        key="k",
        tolerance=None if tolerance is None else f"{tolerance} seconds",
        exact=exact,
    )

    assert told(result) == sorted(expected, key=by_value)


def test_as_of_nulls_stay_and_match_nothing(spark):
    left = table(spark, "k string, at timestamp", [(None, 5), ("a", None), ("a", 5), ("a", 5)])
    right = table(spark, "k string, at timestamp, v int", [(None, 1, 1), ("a", None, 2), ("a", 2, 7), ("a", 3, None)])

    result = told(left.transform(join_as_of, right, by="at", key="k", prefix="r_"))

    # A null in the row that is taken stays null: an older value is not taken for it.
    assert result == [(None, 5, None, None), ("a", None, None, None), ("a", 5, 3, None), ("a", 5, 3, None)]


@pytest.mark.filterwarnings("ignore:WARN WindowExpression")
def test_as_of_needs_no_key(spark):
    left = table(spark, "at timestamp", [(1,), (5,)])
    right = table(spark, "since timestamp, v int", [(2, 7), (9, 8)])

    assert told(left.transform(join_as_of, right, by="at", right_by="since")) == [(1, None, None), (5, 2, 7)]


def test_an_as_of_join_that_cannot_be_is_told(spark):
    left, right = table(spark, "k int, at timestamp", []), table(spark, "k string, at timestamp", [])

    with pytest.raises(StepRefused, match="k is int on the left and k string on the right"):
        left.transform(join_as_of, right, by="at", key="k")
    with pytest.raises(StepRefused, match="several columns at") as caught:
        left.transform(join_as_of, left, by="at", key="k")
    assert "prefix" in caught.value.remedy
    with pytest.raises(StepRefused, match=r"the left frame has no column x.*the right frame has no column x, y"):
        left.transform(join_as_of, right, by="at", right_by="y", key="x")


def test_rows_get_the_columns_of_a_table(spark, capsys):
    flights = table(spark, "n int, origin string", [(1, "JFK"), (2, "JFK"), (3, "XXX"), (4, None)])
    airports = table(
        spark, "code string, city string, n int", [("JFK", "New York", 9), ("LGA", None, 8), (None, "?", 0)]
    )
    arguments = {"key": {"origin": "code"}, "columns": ["city"], "prefix": "origin_"}

    kept = flights.transform(enrich, airports, **arguments)

    assert kept.columns == ["n", "origin", "origin_city"]
    assert told(kept) == [(1, "JFK", "New York"), (2, "JFK", "New York"), (3, "XXX", None), (4, None, None)]
    assert told(flights.transform(enrich, airports, **arguments, unmatched="drop")) == told(kept)[:2]
    assert "no match for its origin" in failure(flights.transform(enrich, airports, **arguments, unmatched="fail"))
    matched = flights.where("n < 3").transform(enrich, airports, **arguments, unmatched="fail")
    assert told(matched) == told(kept)[:2]
    assert "BroadcastHashJoin" in explained(kept, "simple", capsys)
    with pytest.raises(StepRefused, match="several columns n"):
        flights.transform(enrich, airports, key={"origin": "code"})


def test_a_key_that_a_table_has_twice_ends_the_query_and_never_multiplies_rows(spark):
    frame = table(spark, "k int", [(1,), (2,)])
    twice = table(spark, "k int, v int", [(1, 1), (1, 1), (2, 2)])

    assert "several rows for one k" in failure(frame.transform(enrich, twice, key="k"))
    assert frame.transform(enrich, twice, key="k").select("k").count() == 2


def test_a_stream_is_enriched(spark, streams):
    stream = streams.make(table(spark, "k int", [(1,)]), table(spark, "k int", [(2,), (3,)]))
    names = table(spark, "k int, name string", [(1, "one"), (2, "two")])

    assert streams.run(stream.transform(enrich, names, key="k")) == [(1, "one"), (2, "two"), (3, None)]
    with pytest.raises(StepRefused, match="is a stream"):
        names.transform(enrich, stream.selectExpr("k", "1 AS v"), key="k")


# masking

PEOPLE = "id bigint, email string, card string, born date, seen timestamp, note string"
RULES = {
    "id": Hashed(SECRET, "ids"),
    "email": Hashed(SECRET),
    "card": LastCharacters(4),
    "born": Truncated("year"),
    "seen": Truncated("hour"),
    "note": Removed(),
}


def people(spark: Any) -> Any:
    from datetime import date

    return table(
        spark,
        PEOPLE,
        [
            (1, "zoë@example.org", "4111222233334444", date(1990, 5, 17), 7300, "likes tea"),
            (2, None, "4444", None, None, None),
        ],
    )


def test_columns_are_masked(spark):
    from datetime import date

    masked = people(spark).transform(mask, RULES)

    assert masked.columns == people(spark).columns
    first, second = (pseudonym(value, SECRET, "ids") for value in "12")
    assert sorted(map(tuple, seconds(masked).collect()), key=lambda row: row[0] != first) == [
        (first, pseudonym("zoë@example.org", SECRET), "***4444", date(1990, 1, 1), 7200, None),
        (second, None, "***", None, None, None),
    ]


def test_bytes_and_dates_have_pseudonyms_of_their_own(spark):
    frame = spark.range(1).selectExpr("X'FF' AS a", "X'FE' AS b", "DATE'2026-01-02' AS c", "true AS d")
    key = SECRET.get_secret_value().encode()

    masked = frame.transform(mask, dict.fromkeys("abcd", Hashed(SECRET))).collect()[0]

    assert list(masked) == [
        hmac.new(key, text, "sha256").hexdigest() for text in (b"\xff", b"\xfe", b"2026-01-02", b"true")
    ]


def test_no_text_of_a_plan_has_the_secret(spark, capsys):
    masked = people(spark).transform(mask, RULES)
    inner, outer = Hashed(SECRET).pads

    for mode in ("simple", "extended", "codegen", "cost", "formatted"):
        text = explained(masked, mode, capsys)
        assert "sha2" in text.lower() or mode == "codegen"
        for secret in (
            SECRET.get_secret_value(),
            inner.hex(),
            outer.hex(),
            inner.decode("latin-1"),
            str(list(inner))[1:-1],
        ):
            assert secret[:20].lower() not in text.lower()


def test_a_stream_is_masked(spark, streams):
    stream = streams.make(people(spark).where("id = 1"), people(spark).where("id = 2"))

    assert streams.run(stream.transform(mask, {"email": Hashed(SECRET)}).select("id", "email")) == [
        (1, pseudonym("zoë@example.org", SECRET)),
        (2, None),
    ]


def test_rules_that_do_not_fit_are_told_together(spark):
    with pytest.raises(StepRefused, match=r"seen: the text of a timestamp.*born: 'day' is none of") as caught:
        people(spark).transform(mask, {"seen": Hashed(SECRET), "born": Truncated("day"), "note": Removed()})
    assert SECRET.get_secret_value() not in str(caught.value)
    with pytest.raises(StepRefused, match="has no column emial"):
        people(spark).transform(mask, {"emial": Hashed(SECRET)})


# all


@pytest.mark.parametrize(
    ("step", "arguments"),
    [
        (dedupe, {"key": "k", "by": "at"}),
        (sessionize, {"key": "k", "by": "at", "gap": "1 minute"}),
        (update_history, {"key": "k", "by": "at"}),
    ],
)
def test_a_step_that_needs_all_rows_refuses_a_stream_and_says_why(spark, streams, step, arguments):
    frame = table(spark, "k string, at timestamp", [("a", 1)])

    with pytest.raises(StepRefused, match="the frame is a stream, and") as caught:
        streams.make(frame).transform(step, **arguments)

    assert caught.value.remedy


def test_streams_and_batches_are_told_apart(spark, streams):
    frame = table(spark, "k string, at timestamp", [("a", 1)])
    stream = streams.make(frame)

    for left, right in ((stream, frame), (frame, stream)):
        with pytest.raises(StepRefused, match="is a stream"):
            left.transform(join_as_of, right, by="at", key="k", prefix="r_")
    with pytest.raises(StepRefused, match="no stream"):
        frame.transform(dedupe_stream, key="k", by="at", watermark="1 minute")
    with pytest.raises(StepRefused, match="is a stream"):
        frame.transform(update_history, stream, key="k", by="at")
    assert streams.run(stream.transform(conform, {"k": "string"}, extra="drop")) == [("a",)]


ODD = "`a.b` string, `t``s` timestamp, `v w` int"


@pytest.mark.parametrize(
    "step",
    [
        lambda frame: conform(frame, {"a.b": "string", "t`s": "timestamp", "x.y": "bigint"}, rename={"v w": "x.y"}),
        lambda frame: dedupe(frame, key="a.b", by="t`s"),
        lambda frame: sessionize(frame, key="a.b", by="t`s", gap="1 minute"),
        lambda frame: update_history(frame, key="a.b", by="t`s"),
        lambda frame: join_as_of(frame, frame, by="t`s", key="a.b", prefix="r."),
        lambda frame: enrich(frame, frame, key="a.b", prefix="r."),
        lambda frame: mask(frame, {"a.b": Hashed(SECRET), "t`s": Truncated("day")}),
    ],
)
def test_names_may_have_dots_and_backticks(spark, step: Callable[[Any], Any], capsys):
    frame = table(spark, "a string, t timestamp, v int", [("x", 86401, 1)]).toDF("a.b", "t`s", "v w")

    result = step(frame)

    assert result.count() == len(result.collect()) == 1
    assert "EvalPython" not in explained(result, "formatted", capsys)


@pytest.mark.skipif(CLASSIC, reason="this is classic PySpark")
@pytest.mark.timeout(600)
def test_all_of_this_holds_on_classic_pyspark(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command,
        env={**environment, "TEST_STEPS_SPARK": "classic"},
        cwd=resource("pyproject.toml").parent,
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
