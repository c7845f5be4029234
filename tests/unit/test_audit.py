"""The audit log: what is acknowledged is there, whole and private, whoever writes at once and whoever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.workbench import ROOT
from workbench.errors import WorkbenchError
from workbench.security.audit import Action, AuditLog, Event, Outcome, read_events, read_last_events

WRITER = """
import sys
from pathlib import Path
from workbench.security.audit import AuditLog, Event

log = AuditLog(Path(sys.argv[1]))
while True:
    event = Event("writer", "logout", "hub", "success", {"filling": "x" * 200})
    log.append(event)
    print(event.id, flush=True)
"""
TEXT = st.text(st.characters(exclude_categories=()), max_size=400)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def an_event(**changes) -> Event:
    fields = {"actor": "gh-ada", "action": Action.LOGIN_SUCCEEDED, "resource": "hub", "outcome": Outcome.SUCCESS}
    return Event(**{**fields, **changes})


@pytest.fixture
def audit(tmp_path: Path) -> AuditLog:
    return AuditLog.of(tmp_path)


def test_what_is_recorded_is_read_again(audit):
    events = [an_event(), an_event(actor="gh-grace", details={"provider": "github"})]

    for event in events:
        audit.append(event)

    assert list(read_events(audit.path)) == events


@pytest.mark.parametrize(
    ("action", "outcome"),
    [(Action.LOGOUT, "success"), (Action.LOGIN_REFUSED, "refused"), (Action.LOGIN_FAILED, "failed")],
)
def test_an_event_is_recorded_in_one_call(audit, action, outcome):
    audit.record(action, actor="gh-ada", resource="hub", tries=3)

    event = next(read_events(audit.path))
    assert (event.actor, event.action, event.resource, event.outcome) == ("gh-ada", action, "hub", outcome)
    assert event.details == {"tries": "3"}


def test_the_log_is_private_in_a_private_folder(audit):
    audit.append(an_event())

    assert (mode(audit.path), mode(audit.path.parent)) == (0o600, 0o700)


def test_times_are_utc_with_milliseconds(audit):
    audit.append(an_event(time=datetime(2026, 1, 2, 3, 4, 5, 678_999, tzinfo=UTC)))

    assert json.loads(audit.path.read_bytes())["time"] == "2026-01-02T03:04:05.678Z"


def test_events_are_chosen_by_actor_action_and_time(audit):
    old = an_event(time=datetime.now(UTC) - timedelta(days=2))
    new, other = an_event(action=Action.LOGOUT), an_event(actor="gh-grace")
    for event in (old, new, other):
        audit.append(event)

    assert list(read_events(audit.path, actor="gh-grace")) == [other]
    assert list(read_events(audit.path, action=Action.LOGOUT)) == [new]
    assert list(read_events(audit.path, since=datetime.now(UTC) - timedelta(days=1))) == [new, other]


def test_the_newest_come_first_and_only_as_many_as_asked_for(audit):
    events = [an_event(actor=f"gh-{number}") for number in range(5)]
    for event in (*events, an_event(action=Action.LOGOUT)):
        audit.append(event)

    assert read_last_events(audit.path, action=Action.LOGIN_SUCCEEDED, count=2) == [events[4], events[3]]


def test_a_long_log_is_read_from_its_end(audit, monkeypatch):
    events = [an_event(actor=f"gh-{number}") for number in range(9)]
    for event in events:
        audit.append(event)
    monkeypatch.setattr("workbench.security.audit.TAIL_BYTES", 2 * len(events[0].as_line()))

    assert read_last_events(audit.path, action=Action.LOGIN_SUCCEEDED, count=9) == [events[8], events[7]]


def test_a_log_that_is_not_there_has_no_events(audit):
    assert list(read_events(audit.path)) == []
    assert read_last_events(audit.path, action=Action.LOGOUT, count=3) == []


@pytest.mark.parametrize("name", ["access_token", "clientSecret", "PASSWORD", "cookie_id", "Authorization"])
def test_a_secret_given_by_name_does_not_reach_the_log(audit, name):
    audit.append(an_event(details={name: "abc123", "provider": "github"}))

    assert b"abc123" not in audit.path.read_bytes()
    assert next(read_events(audit.path)).details == {name: "***", "provider": "github"}


@given(actor=TEXT, resource=TEXT, details=st.dictionaries(TEXT, TEXT, max_size=20))
def test_whatever_comes_in_is_one_bounded_line_that_is_read_again(actor, resource, details):
    event = an_event(actor=actor, resource=resource, details=details)

    line = event.as_line()

    assert line.count(b"\n") == 1
    assert all(byte >= 0x20 for byte in line[:-1])
    assert Event.of_line(line) == event
    texts = (event.actor, event.resource, *event.details, *event.details.values())
    assert all(len(text.encode()) <= 256 for text in texts)
    assert len(event.details) <= 16


@given(st.binary(max_size=300))
def test_a_line_of_anything_is_an_event_or_a_value_error(line):
    with contextlib.suppress(ValueError):
        assert Event.of_line(line).as_line()


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_torn_line_is_passed_over_and_costs_no_event_after_it(audit, cut):
    first, torn, after = an_event(), an_event(), an_event()
    audit.append(first)
    with audit.path.open("ab") as file:
        file.write(torn.as_line()[:cut])

    assert list(read_events(audit.path)) == [first]
    audit.append(after)

    # What lacked nothing but its line feed is whole now.
    assert list(read_events(audit.path)) == ([first, torn, after] if cut == -1 else [first, after])


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_what_does_not_reach_the_disk_is_not_acknowledged(audit, monkeypatch, call):
    audit.append(an_event())

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)

    with pytest.raises(WorkbenchError, match="No space left"):
        audit.append(an_event())


def test_half_a_line_on_a_full_disk_is_taken_back(audit, monkeypatch):
    audit.append(an_event())
    size, write = audit.path.stat().st_size, os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:30]))

    with pytest.raises(WorkbenchError, match="no room"):
        audit.append(an_event())

    assert audit.path.stat().st_size == size


def test_a_link_in_the_place_of_the_log_is_refused(audit, tmp_path):
    audit.path.parent.mkdir()
    audit.path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(WorkbenchError):
        audit.append(an_event())

    assert not (tmp_path / "elsewhere").exists()


def test_threads_at_once_lose_nothing(audit):
    events = [an_event(actor=f"gh-{number}") for number in range(60)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(audit.append, events))

    assert {event.id for event in read_events(audit.path)} == {event.id for event in events}


def test_no_acknowledged_event_is_lost_when_writers_are_killed(audit):
    acknowledged: list[str] = []
    for _ in range(2):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, audit.path], stdout=subprocess.PIPE, cwd=ROOT, text=True)
            for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout
            acknowledged += [writer.stdout.readline().strip() for _ in range(5)]
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            assert writer.stdout
            # Without its line feed, it may be half an id.
            acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
            writer.stdout.close()
            writer.wait()

    found = [event.id for event in read_events(audit.path)]

    assert len(acknowledged) >= 20
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))
