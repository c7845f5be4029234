from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.calendar import Ambiguous, CatchUp, Schedule, due, first_touched, instants, next_instants
from tests.services.cron_oracle import expressions, fired, read_wall

BERLIN = "Europe/Berlin"
# Half an hour (Lord Howe), changes at midnight (Santiago, Cairo, Beirut), back and forth in one month (Casablanca),
# before the hour (Nuuk), the other side of the globe, and none.
ZONES = (
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo"),
    *("Asia/Beirut", "Africa/Casablanca", "America/Nuuk", "Pacific/Auckland", "Antarctica/Troll", "Asia/Kolkata"),
)
CHANGES_OF_2026 = [
    *((datetime(2026, 3, 27, tzinfo=UTC), 4), (datetime(2026, 10, 23, tzinfo=UTC), 4)),  # Europe, Troll
    *((datetime(2026, 3, 6, tzinfo=UTC), 4), (datetime(2026, 10, 30, tzinfo=UTC), 4)),  # North America
    *((datetime(2026, 4, 3, tzinfo=UTC), 4), (datetime(2026, 9, 4, tzinfo=UTC), 4)),  # Lord Howe, Santiago
    *((datetime(2026, 2, 13, tzinfo=UTC), 4), (datetime(2026, 4, 22, tzinfo=UTC), 4)),  # Casablanca, Cairo
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def listed(cron: str, zone: str, begin: str, end: str, **more) -> list[str]:
    found = instants(Schedule(cron=cron, zone=zone, **more), at(begin), at(end))
    return [each.strftime("%d %H:%M") for each in found]


@pytest.mark.parametrize("zone", ZONES)
def test_instants_are_those_of_debians_cron(zone):
    for begin, days in CHANGES_OF_2026:
        end = begin + timedelta(days=days)
        wall = read_wall(zone, begin - timedelta(days=1), end)
        for cron in expressions(seed=7, count=25):
            expected = [each for each in fired(cron, wall) if each > begin]
            found = list(instants(Schedule(cron=cron, zone=zone), begin, end - timedelta(minutes=1)))
            assert found == expected, (cron, zone, begin)


@pytest.mark.parametrize(
    ("cron", "zone", "touched"),
    [
        ("30 2 * * *", BERLIN, "2026-03-29T02:30"),
        ("0 2 * 10 *", BERLIN, "2026-10-25T02:00"),
        ("59 2 * 3 *", BERLIN, "2026-03-29T02:59"),
        ("0 3 * * *", BERLIN, None),
        ("59 1 * * *", BERLIN, None),
        ("*/5 2 * * *", BERLIN, None),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05T01:45"),
        ("30 0 * * *", "America/Santiago", "2026-09-06T00:30"),
        ("30 2 * * *", "UTC", None),
    ],
)
def test_the_first_time_that_a_change_of_the_clocks_touches(cron, zone, touched):
    found = first_touched(Schedule(cron=cron, zone=zone), at("2026-01-01"), at("2036-01-01"))

    assert found == (None if touched is None else datetime.fromisoformat(touched))


def test_a_time_that_is_skipped_runs_once_at_the_change():
    assert listed("0,30 2 * * *", BERLIN, "2026-03-28T12:00", "2026-03-30T12:00") == [
        "29 01:00",
        "30 00:00",
        "30 00:30",
    ]


def test_a_time_that_comes_twice_runs_once_twice_or_not():
    span = ("2026-10-24T12:00", "2026-10-26T12:00")

    assert listed("30 2 * * *", BERLIN, *span) == ["25 00:30", "26 01:30"]
    assert listed("30 2 * * *", BERLIN, *span, ambiguous="twice") == ["25 00:30", "25 01:30", "26 01:30"]
    assert listed("30 2 * * *", BERLIN, *span, ambiguous="skip") == ["26 01:30"]


@pytest.mark.parametrize("zone", ZONES)
def test_ambiguous_matters_to_times_that_come_twice_alone(zone):
    there = ZoneInfo(zone)
    for cron in expressions(seed=11, count=4):
        span = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
        found = {
            how: set(instants(Schedule(cron=cron, zone=zone, ambiguous=how), *span)) for how in get_args(Ambiguous)
        }
        assert found["skip"] <= found["once"] <= found["twice"]
        for each in found["twice"] - found["skip"]:
            wall = each.astimezone(there)
            assert wall.replace(fold=0).utcoffset() != wall.replace(fold=1).utcoffset()


def test_jobs_with_a_star_follow_the_wall():
    assert listed("0 */2 * * *", BERLIN, "2026-03-29T00:00", "2026-03-29T03:00") == ["29 02:00"]
    assert listed("30 * * * *", BERLIN, "2026-10-25T00:00", "2026-10-25T02:00") == ["25 00:30", "25 01:30"]


def test_a_day_that_a_zone_left_out_is_a_correction():
    found = listed("0 6 * * *", "Pacific/Apia", "2011-12-28T20:00", "2012-01-01T00:00")

    assert found == ["29 16:00", "30 16:00", "31 16:00"]  # 29, 31 December and 1 January there


@given(
    st.integers(min_value=0, max_value=10**6),
    st.sampled_from(ZONES),
    st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1)),
)
@settings(max_examples=60, deadline=None)
def test_instants_rise_and_may_be_asked_for_in_parts(seed, zone, after):
    schedule = Schedule(cron=next(expressions(seed, 1)), zone=zone)
    whole = list(instants(schedule, after.replace(tzinfo=UTC), limit=20))

    assert all(one < other for one, other in pairwise(whole))
    cursor, parts = after.replace(tzinfo=UTC), []
    for _ in range(20):
        cursor = next(instants(schedule, cursor))
        parts.append(cursor)
    assert parts == whole


def test_the_next_instants_are_local_and_utc():
    (local, utc), *others = next_instants(Schedule(cron="0 6 * * *", zone="America/New_York"), at("2026-07-01T12:00"))

    assert (local.isoformat(), utc.isoformat()) == ("2026-07-02T06:00:00-04:00", "2026-07-02T10:00:00+00:00")
    assert len(others) == 4


@pytest.mark.parametrize(
    ("cron", "zone", "part"),
    [
        ("0 0 30 2 *", "UTC", "never fires"),
        ("0 0 31 4,6 *", "UTC", "never fires"),
        ("61 0 * * *", "UTC", "bad minute"),
        ("@daily", "UTC", "five fields"),
        ("0 0 0 * * *", "UTC", "five fields"),
        ("0 0 * * *", "Europe/Berln", "no IANA time zone"),
        ("0 0 * * *", "../../etc/passwd", "no IANA time zone"),
        ("0 0 * * *", "Europe", "no IANA time zone"),
        ("0 0 * * *", "", "no IANA time zone"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(cron, zone, part):
    with pytest.raises(ValueError, match=part):
        Schedule(cron=cron, zone=zone)


HOURLY = Schedule(cron="0 * * * *")


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (CatchUp(mode="none"), "sssr"),
        (CatchUp(mode="last"), "sssr"),
        (CatchUp(mode="all"), "rrrr"),
        (CatchUp(mode="all", at_most=2), "ssrr"),
    ],
)
def test_late_instants_run_as_catch_up_says_and_none_is_lost(catch_up, expected):
    found = due(HOURLY, at("2026-01-01T00:00"), at("2026-01-01T04:00:10"), catch_up)

    assert "".join("s" if each.skipped else "r" for each in found) == expected
    assert [each.instant.hour for each in found] == [1, 2, 3, 4]
    assert all("while no scheduler ran" in each.skipped for each in found if each.skipped)


def test_without_an_instant_on_time_the_last_late_one_runs():
    found = due(HOURLY, at("2026-01-01T00:00"), at("2026-01-01T03:30"), CatchUp(mode="last"))

    assert [bool(each.skipped) for each in found] == [True, True, False]


def test_many_skipped_instants_come_in_parts():
    cursor, now, rows = at("2026-01-01T00:00"), at("2026-01-11T00:00"), []
    while found := due(HOURLY, cursor, now, CatchUp(mode="last"), limit=50):
        rows += found
        cursor = found[-1].instant

    assert [each.instant for each in rows] == list(instants(HOURLY, at("2026-01-01T00:00"), now))
    assert [each.instant for each in rows if not each.skipped] == [now]
