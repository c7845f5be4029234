"""Durations: one grammar for files, options and thresholds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.cli.times import parse_time
from workbench.durations import DURATION, MILLISECOND, MOST, UNITS, duration_text, parse_duration
from workbench.errors import WorkbenchError
from workbench.observability.monitor.standing import seconds_of


@given(st.integers(0, MOST // MILLISECOND))
def test_a_duration_as_text_is_read_again(milliseconds):
    length = milliseconds * MILLISECOND

    text = duration_text(length)

    assert parse_duration(text) == length
    assert re.search(f"^{DURATION.pattern}$", text)
    assert duration_text(timedelta(seconds=length.total_seconds())) == text, "its seconds as a float are the same"


@given(st.dictionaries(st.sampled_from([*UNITS]), st.integers(0, 10**6), min_size=1))
def test_any_units_may_be_joined_the_largest_first(amounts):
    text = "".join(f"{amounts[unit]}{unit}" for unit in UNITS if unit in amounts)
    milliseconds = sum(amount * UNITS[unit] for unit, amount in amounts.items())

    if milliseconds * MILLISECOND <= MOST:
        assert parse_duration(text) == milliseconds * MILLISECOND


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        ("0.5s", 500),
        ("1m1ms", 60_001),
        ("0s", 0),
    ],
)
def test_a_duration_is_read(text, milliseconds):
    assert parse_duration(text) // MILLISECOND == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "m",
        "-5m",
        "+5m",
        "1m1h",
        "1h1h",
        "1.5h",
        " 1h",
        "1h\n",
        "1H",
        "٣s",
        "1w",
        "1000001d",
        "9" * 99 + "s",
        5,
    ],
)
def test_what_is_no_duration_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_duration(text)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1h30m", 5400), ("30d", 2_592_000), ("500ms", 0.5)])
def test_a_silence_lasts_any_duration_up_to_thirty_days(text, seconds):
    assert seconds_of(text) == seconds


def test_a_time_is_typed_as_itself_or_as_how_long_ago_it_was():
    assert parse_time("") is None
    assert parse_time("2026-01-31T08:00+01:00") == datetime(2026, 1, 31, 7, tzinfo=UTC)
    ago = datetime.now(UTC) - timedelta(hours=1, minutes=30)
    assert abs(parse_time("1h30m") - ago) < timedelta(seconds=5)


@pytest.mark.parametrize("text", ["nonsense", "12", "1000000d", "2026-13-01"])
def test_what_is_no_time_is_said_with_what_to_write(text):
    with pytest.raises(WorkbenchError, match=re.escape(repr(text))) as told:
        parse_time(text)
    assert type(told.value) is WorkbenchError
    assert told.value.remedy
