"""What the monitor finds out of this machine."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from pipelines.monitor import own
from pipelines.monitor.own import Machine, Pipelines
from pipelines.store.pages.measures import OVERLAP, Ended, Measures
from tests.services.certificates import Authority
from workbench.observability import metrics
from workbench.security.audit import Action
from workbench.security.audit.event import Event
from workbench.settings import Settings


def expiries():
    (family,) = metrics.CERTIFICATE_EXPIRY.collect()
    return {sample.labels["certificate"]: sample.value for sample in family.samples}


def test_a_certificate_that_cannot_be_read_keeps_its_last_end_and_takes_no_others_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "keys" / "hub"
    folder.mkdir(parents=True)
    pem = Authority(tmp_path, "authority").file.read_bytes()
    for name in ("a", "b"):
        (folder / f"{name}.pem").write_bytes(pem)
    machine = Machine(Settings.load())
    machine.look()
    before = expiries()

    (folder / "a.pem").write_text("broken")
    (folder / "c.pem").write_text("broken")
    machine.look()

    assert set(before) == {"hub-a", "hub-b"}
    assert expiries() == before


def test_ends_that_are_read_again_are_counted_once_however_many_there_are(tmp_path, monkeypatch):
    noon, ended = datetime(2026, 1, 1, 12, tzinfo=UTC), list[Ended]()
    monkeypatch.setattr(own, "MOST_SEEN", 2)
    monkeypatch.setattr(own, "read_measures", lambda *_: Measures({}, ("counted-once",), frozenset(), 0, 0, 0.0, 0))
    store, pipelines = SimpleNamespace(transaction=nullcontext), Pipelines(tmp_path)

    def look(at: datetime) -> None:
        monkeypatch.setattr(own, "read_ended", lambda *_: ([each for each in ended if each.at >= at - OVERLAP], at))
        pipelines.look(store)

    look(noon)
    ended += [Ended(number, "counted-once", "failed", noon) for number in range(5)]
    for seconds in (15, 30, 45, 60):
        look(noon + timedelta(seconds=seconds))
    assert metrics.RUNS_ENDED.labels("counted-once", "failed")._value.get() == 5

    look(noon + timedelta(hours=1))
    assert len(pipelines._seen) == 2


def test_a_log_that_stays_unreadable_is_followed_anew_and_told_of_twice(tmp_path, monkeypatch, caplog):
    begun: list[int] = []

    def follow_events(path, search, *, wait, failed):
        begun.append(1)
        if len(begun) > 1:
            yield Event.of(Action.LOGIN_FAILED, actor="", resource="hub")
            return
        while True:
            failed(OSError("unreadable"))

    monkeypatch.setattr(own, "follow_events", follow_events)
    stopping = SimpleNamespace(wait=lambda _: False, is_set=lambda: len(begun) > 1)
    counted = metrics.SECURITY_EVENTS.labels(Action.LOGIN_FAILED, "failed")
    before = counted._value.get()

    own._follow(tmp_path, stopping)

    assert counted._value.get() == before + 1
    assert caplog.text.count("cannot be followed: unreadable") == 2
