"""The alerts of pipelines/alerts.yaml see a backup that was not made, and WAL that is not archived."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from pipelines.monitor.own import Machine
from workbench.observability import metrics
from workbench.observability.alerts.expressions import Moment
from workbench.observability.alerts.rules import load_rules
from workbench.observability.alerts.samples import Samples
from workbench.observability.alerts.states import Stage, evaluate
from workbench.resources import resource
from workbench.settings import Settings
from workbench.warehouse.backup import status
from workbench.warehouse.backup.repository import Backup, Part
from workbench.warehouse.backup.wal import Segment

HOUR = 3600.0
LOOK_SECONDS = 15
HELD_LOOKS = 61  #: the alerts ask for ten minutes at most


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WORKBENCH_BACKUP_FOLDER", str(tmp_path / "backups"))
    (tmp_path / "home" / "backup").mkdir(parents=True)
    (tmp_path / "home" / "backup" / "id").write_text("0a1b2c3d4e5f\n")
    return tmp_path / "home"


def made(hours_ago: float) -> Backup:
    at = datetime.fromtimestamp(time.time() - hours_ago * HOUR, UTC)
    return Backup(
        name="20261127T000000Z-000000", begun=at, finished=at, start=Segment(1, 1), stop=Segment(1, 1), server="18.6",
        database="analytics", user="workbench", home="/srv/workbench",
        parts=(Part(name="home.tar.gz.enc", size_bytes=5, sha256="00"),),
    )  # fmt: skip


def firing() -> set[str]:
    """What fires after the machine was looked at and everything has stayed so for a quarter of an hour."""
    Machine(Settings.load()).look()
    samples, now = Samples(), int(time.time() * 1000)
    rules = [
        each
        for each in load_rules(resource("pipelines") / "alerts.yaml")
        if {"backup", "wal"} & {*each.name.split("_")}
    ]
    alerts = {rule.name: {} for rule in rules}
    for look in range(HELD_LOOKS):
        at = now + look * LOOK_SECONDS * 1000
        for gauge in metrics.BACKUPS:
            for family in gauge.collect():
                for sample in family.samples:
                    samples.add(sample.name, tuple(sample.labels.items()), at, sample.value)
        alerts = {rule.name: evaluate(rule, alerts[rule.name], Moment(samples, at)) for rule in rules}
    return {name for name, found in alerts.items() if any(each.stage is Stage.FIRING for each in found.values())}


def test_a_backup_in_time_is_no_alert(home):
    status.begin(home)
    status.note_verified(home, made(hours_ago=20), 3)

    assert firing() == set()


def test_a_schedule_that_was_missed_is(home):
    status.begin(home)
    status.note_verified(home, made(hours_ago=27), 3)

    assert firing() == {"backup_missing"}


def test_so_is_one_whose_backups_have_all_failed(home, monkeypatch):
    with monkeypatch.context() as then:
        then.setattr(time, "time", lambda now=time.time() - 27 * HOUR: now)
        status.begin(home)
    status.note_failed(home, "no space")

    assert firing() == {"backup_missing"}
    ((succeeded,),) = (family.samples for family in metrics.BACKUP_SUCCEEDED.collect())
    assert succeeded.value == 0


def test_wal_that_waits_is(home):
    status.note_verified(home, made(hours_ago=1), 3)
    status.note_waiting_since(home, time.time() - 700)

    assert firing() == {"wal_not_archived"}


def test_the_alert_on_wal_is_there_when_five_minutes_would_be_lost():
    (rule,) = (each for each in load_rules(resource("pipelines") / "alerts.yaml") if each.name == "wal_not_archived")
    samples, now, alerts, fired = Samples(), int(time.time() * 1000), {}, []
    for lag in range(0, 600, LOOK_SECONDS):
        at = now + lag * 1000
        samples.add("workbench_backup_wal_lag_seconds", (("warehouse", "w"),), at, lag)
        alerts = evaluate(rule, alerts, Moment(samples, at))
        fired += [lag for each in alerts.values() if each.stage is Stage.FIRING]

    assert 300 <= fired[0] <= 300 + 2 * LOOK_SECONDS


def test_where_no_backups_are_made_nobody_misses_them(home, monkeypatch):
    status.note_verified(home, made(hours_ago=100), 3)
    assert firing() == {"backup_missing"}

    monkeypatch.delenv("WORKBENCH_BACKUP_FOLDER")

    assert firing() == set()
