"""How alerts pend, fire and are resolved, who is told what when, and what the monitor keeps. Prometheus itself is asked in tests/integration."""

from __future__ import annotations

import math
import stat
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.alert_series import PROMETHEUS_2
from workbench.errors import MonitorError
from workbench.observability.alerts.conditions import parse_condition
from workbench.observability.alerts.functions import bucket_quantile, divide, increase
from workbench.observability.alerts.rules import Rule
from workbench.observability.alerts.samples import LOOKBACK_MS, PROMETHEUS_3, Samples
from workbench.observability.alerts.states import MOST_OUTAGE_MS, Alert, Stage, advance, resumed
from workbench.observability.alerts.telling import Pace, Told, plan
from workbench.observability.monitor.database import KEEP_MS, MonitorDatabase
from workbench.observability.notifications import Severity

A, B = (("table", "a"),), (("table", "b"),)
PACE = Pace(interval_seconds=300, remind_seconds=3600)


def rule_of(seconds: int = 300, keep: int = 0, name: str = "bad") -> Rule:
    return Rule(
        name=name, condition=parse_condition("error_rate > 5%"), seconds=seconds, severity=Severity.CRITICAL,
        channels=("slack", "pager"), keep_firing_seconds=keep,
    )  # fmt: skip


def stages(rule: Rule, holding: list[bool], step: int = 60) -> str:
    """The first letter of the stage at each step; `-` without an alert."""
    alerts: dict = {}
    found = ""
    for number, holds in enumerate(holding):
        alerts = advance(rule, alerts, {A: 0.5} if holds else {}, number * step * 1000)
        found += alerts[A].stage[0] if A in alerts else "-"
    return found


def bits(text: str) -> list[bool]:
    return [each == "1" for each in text]


@pytest.mark.parametrize(
    ("holding", "seconds", "keep", "expected"),
    [
        ("1111111", 300, 0, "pppppff"),  # at the sixth look of a minute each
        ("1111011111111", 300, 0, "pppp-pppppfff"),
        ("1100", 0, 0, "ffrr"),
        ("10100", 0, 120, "fffff"),
        ("1000", 0, 120, "ffff"[:3] + "r"),
        ("10" + "0" * 16 + "1", 0, 0, "f" + "r" * 16 + "-f"),
    ],
)
def test_an_alert_goes_through_its_stages(holding, seconds, keep, expected):
    assert stages(rule_of(seconds, keep), bits(holding)) == expected


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 10), st.integers(0, 5))
def test_it_fires_only_after_it_has_held_for_as_long_and_is_never_resolved_without(holding, wait, keep):
    found = stages(rule_of(wait * 60, keep * 60), holding)

    for number, stage in enumerate(found):
        if stage == "f" and (number == 0 or found[number - 1] != "f"):
            assert all(holding[number - wait : number + 1])
        if stage == "r" and found[number - 1] == "f":
            assert not any(holding[number - keep : number + 1])
        if stage == "p":
            assert holding[number]


def test_what_pends_goes_on_after_a_restart_and_time_in_which_nobody_looked_does_not_count():
    pending = Alert(A, Stage.PENDING, 1, active_at=0)
    firing = Alert(B, Stage.FIRING, 1, active_at=0, fired_at=10)

    found = resumed([pending, firing], last=240_000, now=600_000)

    assert advance(rule_of(), found, {A: 1, B: 1}, 600_000)[A].stage is Stage.PENDING
    assert advance(rule_of(), found, {A: 1, B: 1}, 660_000)[A].stage is Stage.FIRING
    assert found[B] == firing
    assert set(resumed([pending, firing], last=0, now=MOST_OUTAGE_MS)) == {B}


def test_a_clock_that_was_set_changes_no_duration():
    start = 1_000_000_000
    alerts = advance(rule_of(), {}, {A: 1}, start)
    for jump in (-86_400_000, 86_400_000):
        moved = {labels: each.moved(jump) for labels, each in alerts.items()}
        assert advance(rule_of(), moved, {A: 1}, start + jump + 299_999)[A].stage is Stage.PENDING
        assert advance(rule_of(), moved, {A: 1}, start + jump + 300_000)[A].stage is Stage.FIRING
        assert moved[A].fired_at == 0


class Group:
    """What people are told of one rule, minute for minute."""

    def __init__(self, rule: Rule | None = None, pace: Pace = PACE) -> None:
        self.rules = [rule or rule_of()]
        self.pace, self.told, self.silent = pace, {}, set()

    def at(self, minute: float, *firing) -> str:
        alerts = {each: Alert(each, Stage.FIRING, 0.5, 0, fired_at=1000) for each in firing}
        messages, self.told = plan(
            self.rules, {"bad": alerts}, self.told,
            is_silenced=lambda rule, labels: labels in self.silent, at=int(minute * 60_000), pace=self.pace,
        )  # fmt: skip
        # As they are kept.
        self.told = {name: Told.of_json(each.as_json()) for name, each in self.told.items()}
        self.last = messages[-1] if messages else None
        return self.last.title if self.last else ""


def test_all_of_a_rule_is_one_message_and_what_changes_is_told_after_the_interval():
    group = Group()

    assert group.at(0, A) == "bad fires"
    key = group.last.key
    assert group.at(1, A, B) == ""
    assert group.at(5, A, B) == "bad fires (2)"
    assert group.at(6, B) == ""
    assert group.at(10, B) == "bad fires"
    assert "over: table a" in group.last.body
    assert group.at(15) == "bad is resolved"
    assert (group.last.is_resolved, group.last.key, group.last.number) == (True, key, 4)
    assert group.last.channels == ("slack", "pager")


def test_what_flaps_is_no_flood():
    group = Group()

    told = [group.at(minute / 4, *([A] if minute % 2 else [])) for minute in range(240)]

    assert len([each for each in told if each]) <= 60 / 5 + 1


def test_who_was_told_is_reminded_and_who_is_silenced_is_not():
    group = Group()
    group.at(0, A)
    assert group.at(59, A) == ""
    assert group.at(60, A) == "bad still fires"
    group.silent = {A}
    assert group.at(121, A) == ""
    assert group.at(130) == "bad is resolved"

    quiet = Group()
    quiet.silent = {A}
    assert quiet.at(0, A) == ""
    assert quiet.at(1) == ""
    quiet.silent = set()
    assert quiet.at(2, A) == "bad fires"


def test_a_channel_that_the_file_names_no_more_is_told_of_the_end_and_of_nothing_else():
    group = Group()
    group.at(0, A)
    assert group.last.channels == ("slack", "pager")
    group.rules = [replace(group.rules[0], channels=("slack", "email"))]
    assert group.at(6, A, B) == "bad fires (2)"
    assert group.last.channels == ("slack", "email")
    assert group.at(12) == "bad is resolved"
    assert group.last.channels == ("slack", "pager", "email")


def test_a_channel_that_is_new_is_told_once_of_what_fires_and_the_others_are_not():
    group = Group()
    group.at(0, A)
    group.rules = [replace(group.rules[0], channels=("slack", "pager", "email"))]

    assert group.at(1, A) == ""
    assert group.at(6, A) == "bad still fires"
    assert (group.last.channels, group.last.number) == (("email",), 2)
    assert group.at(7, A) == ""
    assert group.at(8, A, B) == "bad fires (2)"
    assert (group.last.channels, group.last.number) == (("slack", "pager", "email"), 3)

    group.rules = [replace(group.rules[0], channels=("other",))]
    group.silent = {A, B}
    assert group.at(20, A, B) == ""
    assert group.at(21) == "bad is resolved"
    assert "other" in group.last.channels


def test_an_alert_that_is_not_declared_any_more_is_resolved():
    group = Group()
    group.at(0, A)
    group.rules = []
    assert group.at(6, A) == "bad is resolved"
    assert "not declared any more" in group.last.body
    assert group.at(20, A) == ""
    assert group.told == {}


def test_values_are_the_last_ones_unless_they_are_old_or_have_ended():
    samples = Samples()
    samples.add("m", A, 0, 1.0)
    samples.add("m", B, 0, 2.0)
    samples.add("m", B, 1000, None)
    samples.add("m", A, 0, 9.0)

    assert samples.instant("m", (), 1000, PROMETHEUS_3) == {A: 1.0}
    assert samples.instant("m", (), -1, PROMETHEUS_3) == {}
    assert samples.instant("m", (), LOOKBACK_MS, PROMETHEUS_3) == {}
    assert samples.instant("m", (), LOOKBACK_MS, PROMETHEUS_2) == {A: 1.0}
    samples.move(500)
    assert samples.instant("m", (), 499, PROMETHEUS_3) == {}
    samples.forget(1_000_000)
    assert samples.instant("m", (), 500, PROMETHEUS_3) == {}


def test_numbers_are_those_of_ieee_754():
    assert divide(1, 0) == math.inf
    assert divide(-1, 0) == -math.inf
    assert math.isnan(divide(0, 0))
    assert math.isnan(bucket_quantile(0.95, {1.0: 0, math.inf: 0}))
    assert bucket_quantile(0.95, {1.0: 0, math.inf: 5}) == 1.0
    assert increase([(0, 1.0)], 60_000, 60_000, PROMETHEUS_3) is None
    assert increase([(0, 100.0), (60_000, 5.0)], 60_000, 60_000, PROMETHEUS_3) == 5.0


def test_what_is_kept_is_there_after_a_restart_and_private(tmp_path):
    path = tmp_path / "monitor" / "monitor.sqlite"
    alerts = {"bad": {A: Alert(A, Stage.PENDING, 0.5, 7), B: Alert(B, Stage.FIRING, math.inf, 7, 9)}}
    samples = [("m", A, 1.5), ("m", B, math.nan), ("n", (), None)]
    with MonitorDatabase(path) as database, database.changing():
        database.add_samples(1000, samples)
        database.add_samples(KEEP_MS + 1000, [("m", A, 2.5)])
        database.set_alerts(alerts, 5)
        number = database.add_silence("bad", A, 1e12, "operator:me", "why")

    with MonitorDatabase(path) as database:
        assert database.read_alerts() == {"bad": [*alerts["bad"].values()]}
        assert database.evaluated() == 5
        assert repr(next(iter(database.read_samples(0)))) == repr((1000, samples))
        (silence,) = database.silences()
        assert silence.covers("bad", (*A, ("topic", "t")))
        assert not silence.covers("bad", B)
        assert not silence.covers("other", A)
        with database.changing():
            database.let_go(KEEP_MS + 1001)
            assert database.remove_silence(number)
            assert not database.remove_silence(number)
            database.move(-1000)
        assert [at for at, _ in database.read_samples(0)] == [KEEP_MS]
        with pytest.raises(ZeroDivisionError), database.changing():
            database.set_alerts({}, 6)
            raise ZeroDivisionError
        assert database.evaluated() == 5
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


def test_a_damaged_file_is_told_with_a_remedy(tmp_path):
    path = tmp_path / "monitor.sqlite"
    path.write_bytes(b"no database" * 1000)

    with pytest.raises(MonitorError, match="cannot be opened") as error, MonitorDatabase(path):
        pass
    assert "removed" in error.value.remedy
