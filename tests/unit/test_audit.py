"""The audit log: what is acknowledged is there, whole and private, whoever writes at once and whoever is killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.workbench import ROOT
from workbench.cli import audit as command
from workbench.errors import AuditError, WorkbenchError
from workbench.security.audit import Action, AuditLog, Event, Outcome, Search, read_last_events, reading, search_events
from workbench.security.audit import read_events as read_all_events
from workbench.security.audit.event import PRODUCT
from workbench.security.audit.lines import NOTHING, Seal, canonical, digest, sealed
from workbench.security.audit.log import ACTOR
from workbench.security.audit.proof.chain import follow_chain
from workbench.security.audit.reading import follow_events
from workbench.security.audit.segments import segments

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


def read_events(path: Path, **wanted) -> Iterator[Event]:
    """Without what the log tells of itself."""
    return (each for each in read_all_events(path, **wanted) if each.actor != ACTOR)


def line_of(event: Event, sequence: int = 1, previous: str = NOTHING, time: int = 1767604364218) -> bytes:
    return sealed(event, Seal(previous, sequence, time))


def problems(log: AuditLog) -> list[str]:
    return [str(each) for each in follow_chain(log.path, segments(log.path), ()).problems]


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

    line = audit.path.read_bytes().splitlines()[-1]
    assert json.loads(line)["event"]["time"] == 1767323045678
    assert next(read_events(audit.path)).time == datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


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
    monkeypatch.setattr("workbench.security.audit.reading.TAIL_BYTES", 2 * len(line_of(events[0])) + 10)

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

    line = line_of(event)

    assert line.count(b"\n") == 1
    assert all(byte >= 0x20 for byte in line[:-1])
    assert Event.of_line(line) == event
    assert Seal.of_line(line) == Seal(NOTHING, 1, 1767604364218)
    assert line == canonical(in_order(json.loads(line))) + b"\n"
    texts = (event.actor, event.resource, *event.details, *event.details.values())
    assert all(len(text.encode()) <= 256 for text in texts)
    assert len(event.details) <= 16


@given(st.binary(max_size=300))
def test_a_line_of_anything_is_an_event_or_a_value_error(line):
    with contextlib.suppress(ValueError):
        assert line_of(Event.of_line(line))


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_torn_line_is_passed_over_and_costs_no_event_after_it(audit, cut):
    first, torn, after = an_event(), an_event(), an_event()
    audit.append(first)
    tail = audit.tail()
    torn_line = line_of(torn, tail.sequence + 1, tail.hash, tail.time)
    with audit.path.open("ab") as file:
        file.write(torn_line[:cut])

    assert list(read_events(audit.path)) == [first]
    audit.append(after)

    # What lacked nothing but its line feed is whole now.
    assert list(read_events(audit.path)) == ([first, torn, after] if cut == -1 else [first, after])
    told = list(read_all_events(audit.path, action=Action.AUDIT_LINE_TORN))
    assert [each.details["bytes"] for each in told] == ([] if cut == -1 else [str(len(torn_line[:cut]))])
    assert problems(audit) == []


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_what_does_not_reach_the_disk_is_not_acknowledged(audit, monkeypatch, call):
    audit.append(an_event())

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)

    with pytest.raises(WorkbenchError, match="No space left"):
        audit.append(an_event())


def test_half_a_line_on_a_full_disk_is_taken_back_and_the_disk_is_named(audit, monkeypatch):
    audit.append(an_event())
    size, write = audit.path.stat().st_size, os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:-50])

    monkeypatch.setattr(os, "write", full)

    with pytest.raises(AuditError, match="the disk is full: No space"):
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
    assert problems(audit) == []


def test_what_arrives_while_the_disk_is_slow_goes_there_together(audit, monkeypatch):
    audit.append(an_event())
    fsync, begun, free, count = os.fsync, threading.Event(), threading.Event(), [0]

    def slow(descriptor: int) -> None:
        count[0] += 1
        begun.set()
        free.wait(20)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with ThreadPoolExecutor(17) as pool:
        writing = [pool.submit(audit.append, an_event())]
        assert begun.wait(20)
        writing += [pool.submit(audit.append, an_event()) for _ in range(16)]
        while len(audit._queue.waiting) < 16:
            assert not any(each.done() for each in writing)
        free.set()
        for each in writing:
            each.result()

    assert count[0] == 2
    assert len(list(read_events(audit.path))) == 18


def test_an_error_of_the_disk_reaches_everybody_whose_event_it_was(audit, monkeypatch):
    audit.append(an_event())
    begun, free = threading.Event(), threading.Event()

    def fail(descriptor: int) -> None:
        begun.set()
        free.wait(20)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with ThreadPoolExecutor(5) as pool:
        writing = [pool.submit(audit.append, an_event()) for _ in range(5)]
        assert begun.wait(20)
        free.set()
        assert all(isinstance(each.exception(), AuditError) for each in writing)


def test_a_line_is_tied_to_the_one_before_it(audit):
    for _ in range(3):
        audit.append(an_event())

    lines = audit.path.read_bytes().splitlines(keepends=True)
    seals = [Seal.of_line(line) for line in lines]
    assert [each.sequence for each in seals] == [1, 2, 3, 4]
    assert [each.previous for each in seals] == [NOTHING, *map(digest, lines[:-1])]


def test_an_event_is_one_of_ocsf(audit):
    audit.append(an_event(outcome=Outcome.REFUSED, details={"b": "1", "a": "2"}))

    event = json.loads(audit.path.read_bytes().splitlines()[-1])["event"]
    assert (event["class_uid"], event["category_uid"], event["activity_id"], event["type_uid"]) == (3002, 3, 1, 300201)
    assert (event["status"], event["status_id"], event["severity_id"]) == ("refused", 2, 3)
    assert event["metadata"]["product"] == {"name": PRODUCT}
    assert list(event["unmapped"]) == ["a", "b"]


def test_a_full_segment_is_closed_and_the_chain_goes_on(tmp_path):
    logs = [AuditLog(tmp_path / "audit" / "events.jsonl", segment_bytes=2000) for _ in range(3)]
    for number in range(30):
        logs[number % 3].append(an_event(actor=f"gh-{number}"))

    names = [each.name for each in segments(logs[0].path)]
    assert len(names) > 5
    assert names[-1] == "events.jsonl"
    assert [each.actor for each in read_events(logs[0].path)] == [f"gh-{number}" for number in range(30)]
    assert problems(logs[0]) == []


def test_a_file_that_is_closed_while_it_is_read_loses_nothing(tmp_path, monkeypatch):
    log = AuditLog(tmp_path / "audit" / "events.jsonl", segment_bytes=1500)
    log.append(*(an_event(actor=f"gh-{number}") for number in range(5)))
    reading = search_events(log.path, Search(actor="gh-*"))
    found = [next(reading).actor]
    for number in range(5, 15):
        log.append(an_event(actor=f"gh-{number}"))
    found += [each.actor for each in reading]
    assert found == [f"gh-{number}" for number in range(5)]
    assert [each.actor for each in read_last_events(log.path, count=15)] == [f"gh-{n}" for n in range(14, -1, -1)]

    # As early as can be: between the listing and the first file.
    listed = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [*listed(path, pattern), *closing()])

    def closing():
        monkeypatch.setattr(Path, "glob", listed)
        log.append(*(an_event(actor="gh-15") for _ in range(5)))
        log.append(an_event(actor="gh-16"))
        return ()

    assert [each.actor for each in search_events(log.path, Search(actor="gh-*"))][-2:] == ["gh-15", "gh-16"]


def test_a_line_that_is_being_written_is_no_insertion(audit):
    audit.append(an_event())
    whole = audit.path.read_bytes()
    audit.append(an_event())
    rest = audit.path.read_bytes()[len(whole) :]

    class Growing:
        def __iter__(self):
            yield from (*whole.splitlines(keepends=True), rest[:40], rest[40:])

    chain = follow_chain(audit.path, [audit.path], (), Growing())

    assert chain.problems == []


def test_a_crash_between_two_segments_is_nothing(tmp_path):
    log = AuditLog(tmp_path / "audit" / "events.jsonl", segment_bytes=1)
    log.append(an_event())
    log.path.rename(log.path.with_name(f"events-{log.tail().sequence:015d}.jsonl"))

    log.append(an_event())

    assert len(list(read_events(log.path))) == 2
    assert problems(log) == []


def test_a_clock_that_was_set_back_is_told(audit, monkeypatch):
    audit.append(an_event())
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 1_000_000_000)
    audit.append(an_event())
    monkeypatch.setattr(time, "time_ns", lambda: now - 3600_000_000_000)
    audit.append(an_event())
    audit.append(an_event())

    told = list(read_all_events(audit.path, action=Action.AUDIT_CLOCK_WENT_BACK))
    assert [3590 < int(each.details["milliseconds"]) / 1000 <= 3600 for each in told] == [True]
    chain = follow_chain(audit.path, segments(audit.path), ())
    assert chain.problems == []
    assert len(chain.notes) == 1


def test_a_torn_line_and_a_clock_that_was_set_back_at_once_are_both_told(audit, monkeypatch):
    audit.append(an_event())
    with audit.path.open("ab") as file:
        file.write(b'{"event":')
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3600_000_000_000)
    audit.append(an_event())

    chain = follow_chain(audit.path, segments(audit.path), ())
    assert chain.problems == []
    assert len(chain.notes) == 2


def test_events_are_searched_with_patterns(audit):
    for actor, action in (
        ("gh-ada", Action.LOGIN_SUCCEEDED),
        ("gh-grace", Action.LOGIN_REFUSED),
        ("gh-ada", Action.LOGOUT),
    ):
        audit.record(action, actor=actor, resource="hub")

    def found(**wanted):
        return [each.action for each in search_events(audit.path, Search(**wanted)) if each.actor != ACTOR]

    assert found(action="login.*") == ["login.succeeded", "login.refused"]
    assert found(outcome="refused") == ["login.refused"]
    assert found(actor="gh-ada", resource="h?b") == ["login.succeeded", "logout"]
    assert found(until=datetime.now(UTC) - timedelta(days=1)) == []


def test_what_is_written_is_followed_over_segments(tmp_path):
    log = AuditLog(tmp_path / "audit" / "events.jsonl", segment_bytes=1500)
    log.append(an_event(actor="before"))
    to_write = [f"gh-{number}" for number in range(12)]

    def write(seconds: float) -> None:
        log.append(an_event(actor=to_write.pop(0)))

    following = follow_events(log.path, Search(), wait=write)

    assert [next(following).actor for _ in range(12)] == [f"gh-{number}" for number in range(12)]


def test_nothing_that_is_followed_is_missed_when_files_are_closed_between_two_looks(tmp_path):
    log = AuditLog(tmp_path / "audit" / "events.jsonl", segment_bytes=1500)
    log.append(an_event(actor="before"))
    following = follow_events(log.path, Search(), wait=lambda _: write(6))
    written: list[str] = []

    def write(count: int) -> None:
        for _ in range(count):
            written.append(f"gh-{len(written)}")
            log.append(an_event(actor=written[-1]))

    write(7)
    found = [next(following).actor for _ in range(9)]
    write(8)
    found += [next(following).actor for _ in range(20)]

    assert len(segments(log.path)) > 6
    assert found == written[:29]


def test_nothing_is_missed_when_a_file_is_closed_within_a_look(tmp_path, monkeypatch):
    log = AuditLog(tmp_path / "audit" / "events.jsonl", segment_bytes=1)
    log.append(an_event(actor="before"))
    following = follow_events(log.path, Search(), wait=lambda _: pytest.fail("there was more"))
    log.append(an_event(actor="gh-0"), an_event(actor="gh-1"))
    real = reading._whole_bytes

    def close_behind(*arguments: object) -> int:
        end = real(*arguments)
        monkeypatch.setattr(reading, "_whole_bytes", real)
        log.append(an_event(actor="gh-2"))
        return end

    monkeypatch.setattr(reading, "_whole_bytes", close_behind)

    assert [next(following).actor for _ in range(3)] == ["gh-0", "gh-1", "gh-2"]


def test_an_error_of_the_disk_while_it_is_followed_misses_and_doubles_nothing(tmp_path, monkeypatch):
    log = AuditLog(tmp_path / "audit" / "events.jsonl", segment_bytes=1500)
    log.append(an_event(actor="before"))
    told: list[OSError] = []
    following = follow_events(log.path, Search(), wait=lambda _: None, failed=told.append)
    written = [f"gh-{number}" for number in range(12)]
    for actor in written:
        log.append(an_event(actor=actor))
    real = reading._whole_bytes

    def break_late(*arguments: object) -> int:
        monkeypatch.setattr(reading, "_whole_bytes", real)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(reading, "_whole_bytes", break_late)

    assert [next(following).actor for _ in range(12)] == written
    assert [error.errno for error in told] == [errno.EIO]


def test_half_a_line_is_followed_once_it_is_whole(tmp_path):
    log = AuditLog(tmp_path / "audit" / "events.jsonl")
    log.append(an_event(actor="before"))
    log.append(an_event(actor="gh-0"))
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-40])
    following = follow_events(log.path, Search(), wait=lambda _: log.path.write_bytes(whole))

    assert next(following).actor == "gh-0"


def test_what_is_written_while_the_newest_events_are_read_is_shown_once(audit, monkeypatch, capsys):
    audit.append(an_event(actor="gh-0"))
    real = command.read_last_events

    def read(*arguments: object, **options: object) -> list[Event]:
        audit.append(an_event(actor="gh-1"))
        found = real(*arguments, **options)
        audit.append(an_event(actor="gh-2"))
        return found

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "read_last_events", read)
    monkeypatch.setattr(command, "find_home", lambda: audit.path.parent.parent)
    monkeypatch.setattr(command, "follow_events", lambda *arguments: follow_events(*arguments, wait=stop))
    with pytest.raises(KeyboardInterrupt):
        command.tail(count=2, follow=True, as_json=False)

    assert re.findall(r"gh-\d", capsys.readouterr().out) == ["gh-0", "gh-1", "gh-2"]


def in_order(value):
    """With names sorted by their UTF-16 code units, as RFC 8785 has them."""
    if isinstance(value, dict):
        return {name: in_order(value[name]) for name in sorted(value, key=lambda each: each.encode("utf-16-be"))}
    return [in_order(each) for each in value] if isinstance(value, list) else value


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
