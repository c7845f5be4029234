"""Partitions of batch jobs, and which of them a run makes."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from workbench.batch import BatchJob, Partition, make_partitions
from workbench.batch.jobs import choose
from workbench.errors import SettingsError, WarehouseError
from workbench.warehouse.bookmarks import Bookmark

BERLIN = ZoneInfo("Europe/Berlin")


def names(*args, **kwargs):
    return [each.name for each in make_partitions(*args, **kwargs)]


def test_partitions_go_from_the_first_to_the_last_both_among_them():
    assert names("day", since="2026-02-27", until="2026-03-01") == ["2026-02-27", "2026-02-28", "2026-03-01"]
    assert names("month", since="2025-12-31", until="2026-02-01") == ["2025-12", "2026-01", "2026-02"]
    assert names("hour", since="2026-01-01T22:30", until="2026-01-02T00") == [
        "2026-01-01T22+0000", "2026-01-01T23+0000", "2026-01-02T00+0000"
    ]  # fmt: skip
    assert names("day", since="2026-02-27") == ["2026-02-27"]
    assert names("value", values=["b", 1, "b"]) == ["b", "1"]


def test_days_of_a_zone_have_23_or_25_hours_and_leave_no_gap():
    days = make_partitions("day", since="2026-03-28", until="2026-03-30", zone=BERLIN)

    hours = [(day.end.astimezone(UTC) - day.start.astimezone(UTC)).total_seconds() / 3600 for day in days]
    assert hours == [24, 23, 24]
    assert all(one.end == other.start for one, other in pairwise(days))
    autumn = make_partitions("hour", since="2026-10-25T01", until="2026-10-25T03", zone=BERLIN)
    assert [each.name for each in autumn] == [
        "2026-10-25T01+0200", "2026-10-25T02+0200", "2026-10-25T02+0100", "2026-10-25T03+0100"
    ]  # fmt: skip


def test_the_rows_of_a_partition_follow_from_the_type_of_the_column():
    (day,) = make_partitions("day", since="2026-01-31", zone=BERLIN)
    (hour,) = make_partitions("hour", since="2026-01-31T05")

    assert day.rows("d", "date") == {"d": {"from": "2026-01-31", "to": "2026-02-01"}}
    assert day.rows("d", "timestamp") == {"d": {"from": "2026-01-31T00:00:00+01:00", "to": "2026-02-01T00:00:00+01:00"}}
    assert day.rows("d", "timestamp_ntz") == {"d": {"from": "2026-01-31T00:00:00", "to": "2026-02-01T00:00:00"}}
    assert day.rows("d", "string") == {"d": "2026-01-31"}
    assert Partition(name="x").rows("d", "int") == {"d": "x"}
    with pytest.raises(SettingsError, match="d is date, which cannot hold the partition 2026-01-31T05"):
        hour.rows("d", "date")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"by": "day"}, "need `since`"),
        ({"by": "day", "since": "yesterday"}, "'yesterday' is no date"),
        ({"by": "day", "since": "2026-01-02", "until": "2026-01-01"}, "comes before"),
        ({"by": "value", "since": "2026-01-02"}, "need `values`"),
        ({"by": "hour", "since": "1900-01-01", "until": "2026-01-01"}, "more than 100000"),
    ],
)
def test_partitions_that_make_no_sense_are_refused(given, told):
    with pytest.raises(SettingsError, match=told):
        make_partitions(**given)


def test_a_job_says_what_it_lacks():
    with pytest.raises(SettingsError, match=r"(?s)2 problems.*needs `name`.*`by` is 'week'"):
        BatchJob(name="", into="a.b", column="day", make=print, by="week")
    with pytest.raises(WarehouseError, match="no table name"):
        BatchJob(name="n", into="b", column="day", make=print)


def test_a_run_makes_what_was_asked_for():
    job = BatchJob(name="j", into="a.b", column="day", make=test_a_job_says_what_it_lacks)
    partitions = make_partitions("day", since="2026-01-01", until="2026-01-04")
    marks = [
        bookmark("2026-01-01", "done", job.code),
        bookmark("2026-01-02", "failed", job.code),
        bookmark("2026-01-03", "done", "older"),
    ]

    def chosen(only):
        return [each.name[-2:] for each in choose(job, partitions, marks, only)]

    assert chosen("missing") == ["02", "04"]
    assert chosen("failed") == ["02"]
    assert chosen("changed") == ["02", "03", "04"]
    assert chosen("all") == ["01", "02", "03", "04"]
    with pytest.raises(SettingsError, match="`only` is 'some'"):
        chosen("some")


def test_the_hash_is_that_of_the_source():
    def one(spark, day):
        return spark.range(1)

    def other(spark, day):
        return spark.range(2)

    def code(make):
        return BatchJob(name="j", into="a.b", column="day", make=make).code

    assert code(one) == code(one) != code(other)


def bookmark(partition, state, code):
    return Bookmark(
        job="j", partition=partition, state=state, rows=1, code=code, application="", error="",
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
