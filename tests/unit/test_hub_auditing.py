"""What of the hub reaches the audit log, how often, and that nobody else waits for the disk."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyterhub.spawner import SpawnException

from hub import warehouse_roles
from hub.auditing import SCHEMA, AuditTrail, ServerStarts, record_stop
from hub.operations import starting, stopped
from workbench.errors import WorkbenchError
from workbench.security.audit import Action, AuditLog, Event
from workbench.security.audit import read_events as read_all_events
from workbench.security.throttle import Throttle
from workbench.settings import Settings


def read_events(path: Path) -> list[Event]:
    """Without what the log tells of itself."""
    return [each for each in read_all_events(path) if each.actor != "audit"]


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog.of(tmp_path)


@pytest.fixture
def disk(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk that syncs nothing until the event is set."""
    log.record(Action.LOGOUT, actor="earlier", resource="hub")
    free, fsync = threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        free.wait(30)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    yield free
    free.set()


def server_event(action: str, user: str) -> logging.LogRecord:
    text = json.dumps({"__schema__": SCHEMA, "action": action, "username": user, "servername": ""})
    return logging.LogRecord("event", logging.INFO, "", 0, text, None, None)


def test_strangers_cannot_fill_the_log():
    now = [0.0]
    throttle = Throttle(per_minute=3, clock=lambda: now[0])

    answers = [throttle.admit() for _ in range(10)]

    assert answers == [0, 0, 0, *[None] * 7]
    now[0] = 60.0
    assert [throttle.admit() for _ in range(4)] == [7, 0, 0, None]


def test_a_slow_disk_holds_up_only_who_waits_for_their_own_event(log, disk):
    trail = AuditTrail(log)

    async def act() -> None:
        waiting = asyncio.ensure_future(trail.record(Action.LOGIN_SUCCEEDED, actor="gh-ada", resource="hub"))
        for _ in range(100):  # the event loop goes on
            await asyncio.sleep(0)
        assert not waiting.done()
        disk.set()
        await waiting
        assert [each.actor for each in read_events(log.path)] == ["earlier", "gh-ada"]

    asyncio.run(asyncio.wait_for(act(), 60))


def test_events_are_written_in_their_order_though_nobody_waits_for_a_start(log, disk):
    trail = AuditTrail(log)
    spawner = SimpleNamespace(name="", user=SimpleNamespace(name="gh-ada"))

    async def act() -> None:
        ServerStarts(trail).emit(server_event("start", "gh-ada"))
        ServerStarts(trail).emit(server_event("stop", "gh-ada"))
        stopping = asyncio.ensure_future(record_stop(trail, spawner))
        await asyncio.sleep(0)
        disk.set()
        await stopping

    asyncio.run(asyncio.wait_for(act(), 60))

    events = read_events(log.path)[1:]
    assert [each.action for each in events] == [Action.SERVER_STARTED, Action.SERVER_STOPPED]
    assert {each.resource for each in events} == {"server:gh-ada/"}


def test_the_password_of_a_server_ends_with_it_though_the_disk_hangs(log, disk, monkeypatch):
    closed = asyncio.Event()
    spawner = SimpleNamespace(name="", user=SimpleNamespace(name="gh-ada"))

    async def close_role(settings: Settings, spawner: SimpleNamespace) -> None:
        closed.set()

    monkeypatch.setattr(warehouse_roles, "close_role", close_role)

    async def act() -> None:
        stopping = asyncio.ensure_future(stopped(AuditTrail(log), None, None, spawner))
        await asyncio.wait_for(closed.wait(), 30)
        assert not stopping.done()
        disk.set()
        await stopping

    asyncio.run(asyncio.wait_for(act(), 60))

    assert [each.action for each in read_events(log.path)][1:] == [Action.SERVER_STOPPED]


def test_whoever_stops_waiting_takes_no_event_out_of_the_log(log, disk):
    trail = AuditTrail(log)

    async def act() -> None:
        first, second = (
            asyncio.ensure_future(trail.record(Action.LOGOUT, actor=name, resource="hub")) for name in ("a", "b")
        )
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        disk.set()
        await first
        await trail.record(Action.LOGOUT, actor="c", resource="hub")

    asyncio.run(asyncio.wait_for(act(), 60))

    assert [each.actor for each in read_events(log.path)] == ["earlier", "a", "b", "c"]


def test_what_cannot_be_written_is_an_error_for_who_waits_and_a_line_of_the_log_for_a_start(tmp_path, caplog):
    (tmp_path / "audit").write_text("in the way")
    trail = AuditTrail(AuditLog.of(tmp_path))

    async def act() -> None:
        ServerStarts(trail).emit(server_event("start", "gh-ada"))
        with pytest.raises(WorkbenchError, match="cannot be written"):
            await trail.record(Action.LOGOUT, actor="a", resource="hub")

    asyncio.run(act())

    assert "server:gh-ada/: the audit log" in caplog.text


def test_no_server_starts_and_no_role_is_given_while_that_cannot_be_recorded(tmp_path, monkeypatch):
    (tmp_path / "audit").write_text("in the way")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_POLICIES_OWN_ROLES", "true")
    spawner = SimpleNamespace(name="", user=SimpleNamespace(name="gh-ada", groups=[]), environment={})
    settings = Settings.load()
    assert settings.policies.own_roles

    with pytest.raises(SpawnException, match="audit log") as refused:
        asyncio.run(starting(AuditTrail(AuditLog.of(tmp_path)), None, settings, spawner))

    assert (refused.value.status_code, refused.value.reason, spawner.environment) == (503, "audit", {})


def test_jupyterhub_may_copy_the_configuration(log):
    trail = AuditTrail(log)

    assert copy.deepcopy({"audit": trail})["audit"] is trail
    assert trail.path == log.path
