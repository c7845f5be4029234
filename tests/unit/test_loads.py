"""Batches to loads, against a plain model: a dictionary of the last record of each key."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import RowsRefused
from workbench.ingestion.batch import Batch
from workbench.ingestion.dead_letters import StoredRecord
from workbench.ingestion.decoding import Decoded, parse_schema
from workbench.ingestion.decoding.json import JsonDecoder
from workbench.ingestion.loads import LoadBuilder, refuse, refused_records, tombstone_key
from workbench.ingestion.pipeline import Pipeline
from workbench.ingestion.verification import _count, offset_ranges
from workbench.loading import ORIGIN, Load, Mode, Progress, Target

COLUMNS = parse_schema({"k": "int64", "v": "string"})
KEY = pa.schema([COLUMNS.field("k")])
BUILDER = LoadBuilder(Target(table="s.t", topic="t", mode=Mode.MERGE, key=("k",)), (), KEY)


def batch_of(records: list[tuple[bytes | None, bytes | None]]) -> Batch:
    messages = [
        StoredRecord(
            {
                "record_partition": 0,
                "record_offset": offset,
                "record_timestamp": None,
                "record_key": key,
                "record_value": value,
                "record_headers": None,
            }
        )
        for offset, (key, value) in enumerate(records)
    ]
    return Batch(
        messages=messages,
        values=[value for _, value in records],
        partitions=np.zeros(len(records), np.int32),
        offsets=np.arange(len(records), dtype=np.int64),
        spans=(),
    )


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["row", "tombstone", "broken", "no key"])), max_size=30))
def test_a_merge_has_the_last_record_of_each_key(drawn):
    records: list[tuple[bytes | None, bytes | None]] = []
    model: dict[int, int | None] = {}  # offset of the row; None is deleted
    dead = 0
    for offset, (key, kind) in enumerate(drawn):
        value: dict[str, Any] = {
            "row": b'{"k":%d,"v":"%d"}' % (key, offset),
            "tombstone": None,
            "broken": b"{",
            "no key": b'{"v":"x"}',
        }
        records.append((b"%d" % key, value[kind]))
        if kind in {"row", "tombstone"}:
            model[key] = offset if kind == "row" else None
        else:
            dead += 1
    batch = batch_of(records)

    load = BUILDER.build(batch, JsonDecoder(COLUMNS).decode(batch.values))

    assert load.deleted is not None
    assert dict(zip(load.rows["k"].to_pylist(), load.rows["_offset"].to_pylist(), strict=True)) == {
        key: offset for key, offset in model.items() if offset is not None
    }
    assert sorted(load.deleted["k"].to_pylist()) == sorted(key for key, offset in model.items() if offset is None)
    assert load.dead_letters.num_rows == dead


@pytest.mark.parametrize(
    ("key", "columns", "expected"),
    [
        (b"5", {"k": "int64"}, {"k": 5}),
        (b'{"k":5,"more":1}', {"k": "int64"}, {"k": 5}),
        (b"abc", {"k": "string"}, {"k": "abc"}),
        (b'"abc"', {"k": "string"}, {"k": "abc"}),
        (b"007", {"k": "string"}, {"k": "007"}),
        (b'{"a":1,"b":"x"}', {"a": "int64", "b": "string"}, {"a": 1, "b": "x"}),
    ],
)
def test_a_tombstone_names_its_row(key, columns, expected):
    assert tombstone_key(key, parse_schema(columns)) == expected


@pytest.mark.parametrize(
    ("key", "columns"),
    [
        (None, {"k": "int64"}),
        (b"x", {"k": "int64"}),
        (b"\xff", {"k": "string"}),
        (b"1", {"a": "int64", "b": "int64"}),
        (b'{"a":1}', {"a": "int64", "b": "int64"}),
        (b'{"k":null}', {"k": "string"}),
        (b'{"k":[1]}', {"k": "string"}),
        (b"a\0b", {"k": "string"}),
    ],
)
def test_a_tombstone_that_names_no_row_says_why(key, columns):
    with pytest.raises(ValueError, match=r"key|decode"):
        tombstone_key(key, parse_schema(columns))


def test_without_a_refused_row_the_record_before_it_counts_for_its_key():
    batch = batch_of([(b"1", b'{"k":1,"v":"a"}'), (b"1", b'{"k":1,"v":"b"}'), (b"2", None), (b"2", b'{"k":2,"v":"c"}')])
    decoded = JsonDecoder(COLUMNS).decode(batch.values)
    load = BUILDER.build(batch, decoded)
    assert load.rows["v"].to_pylist() == ["b", "c"]

    less = BUILDER.build(batch, refuse(decoded, batch, {(0, 1): "too small", (0, 3): "no room"}))

    assert less.deleted is not None
    assert less.rows["v"].to_pylist() == ["a"]
    assert less.deleted["k"].to_pylist() == [2]
    assert less.dead_letters.select(["record_offset", "reason", "target"]).to_pylist() == [
        {"record_offset": 1, "reason": "too small", "target": "s.t"},
        {"record_offset": 3, "reason": "no room", "target": "s.t"},
    ]


def test_a_tombstone_that_the_table_refuses_is_a_dead_letter_and_deletes_nothing():
    batch = batch_of([(b"1", b'{"k":1,"v":"a"}'), (b"1", None), (b"2", None)])
    decoded = JsonDecoder(COLUMNS).decode(batch.values)
    load = BUILDER.build(batch, decoded)
    error = RowsRefused("refused", reasons={}, deletions={0: "something refers to it"})

    refused = refused_records(load, error)
    less = BUILDER.build(batch, refuse(decoded, batch, refused))

    assert refused == {(0, 1): "something refers to it"}
    assert less.deleted is not None
    assert (less.rows["v"].to_pylist(), less.deleted["k"].to_pylist()) == (["a"], [2])
    assert less.dead_letters.select(["record_offset", "record_value", "reason"]).to_pylist() == [
        {"record_offset": 1, "record_value": None, "reason": "something refers to it"}
    ]


@given(st.sets(st.integers(0, 500), max_size=200))
def test_ranges_cover_every_offset(offsets):
    ordered = np.array(sorted(offsets), np.int64)

    ranges = offset_ranges(ordered)

    covered = {offset for start, end in ranges for offset in range(start, end)}
    assert offsets <= covered
    assert all(end <= following for (_, end), (following, _) in itertools.pairwise(ranges))


class _Coordinates:
    """A warehouse that says where its rows come from."""

    def coordinates(self, *, dead: bool) -> Iterator[pa.RecordBatch]:
        partitions, offsets = ([], []) if dead else ([0, 0, None], [0, 2, None])
        arrays = [pa.array(partitions, pa.int32()), pa.array(offsets, pa.int64())]
        yield pa.RecordBatch.from_arrays(arrays, [field.name for field in ORIGIN])

    def filtered(self) -> Iterator[pa.RecordBatch]:
        yield from ()


def test_rows_from_before_the_flow_are_not_counted():
    progress = Progress(0, "cluster", "topic", first_offset=0, next_offset=3, epoch=1, seconds_since_commit=0)

    counts = _count(_Coordinates(), [progress])

    assert list(counts) == [0]
    assert counts[0].times.tolist() == [1, 0, 1]


class _OneBatch:
    """A source that has one batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def cut(self) -> Batch:
        return self._batch

    def go_on(self) -> bool:
        return False


class _Warehouse:
    def commit(self, load: Load) -> None:
        self.load = load


class _Fragile(JsonDecoder):
    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        if b"poison" in values:
            raise ZeroDivisionError("by the record")
        return super().decode(values)


def test_a_record_that_breaks_the_decoder_does_not_end_the_flow():
    source, warehouse = _OneBatch(batch_of([(b"1", b'{"k":1}'), (b"2", b"poison"), (b"3", b'{"k":3}')])), _Warehouse()
    pipeline = Pipeline(_Fragile(COLUMNS), BUILDER, warehouse, outage_seconds=0, committed=lambda *_: None)

    pipeline.run(lambda: source, lambda _: None)

    assert warehouse.load.rows["_offset"].to_pylist() == [0, 2]
    assert warehouse.load.dead_letters["reason"].to_pylist() == ["the decoder broke: ZeroDivisionError: by the record"]
