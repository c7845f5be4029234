"""Off-boarding somebody does not wait for the archive of somebody else, and nothing of it is undone in between."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.web import HTTPError

from hub import offboarding
from hub.offboarding import Offboard, Readmit
from workbench.errors import WorkbenchError
from workbench.settings import Settings


class Silent:
    """A command of the operator's, of which nobody hears."""

    body: dict[str, Any] = {}  # noqa: RUF012
    actor = "operator:root"
    authenticator = None

    async def tell(self, **line: object) -> None:
        """Nobody listens."""


def authenticator(**parts: Any) -> SimpleNamespace:
    """One whose audit log takes everything."""

    async def record(*_: Any, **__: Any) -> None:
        """Nothing is kept."""

    return SimpleNamespace(audit=SimpleNamespace(record=record), **parts)


class Request(Silent, Offboard):
    """The command for somebody; notes what is done."""

    def __init__(self, settings: Settings, done: list[str]) -> None:
        self.workbench, self.done = settings, done
        self.authenticator = authenticator()

    def check_known(self, name: str) -> Any:
        return SimpleNamespace(name=name)

    async def _block(self, name: str) -> list[str]:
        self.done.append(f"{name} blocked")
        return []

    async def expel(self, user: Any, reason: str) -> list[str]:
        self.done.append(f"{user.name} out")
        return []


class Return(Silent, Readmit):
    """The command that lets somebody in again, who was blocked."""

    def __init__(self, settings: Settings, done: list[str]) -> None:
        identities = SimpleNamespace(
            is_blocked=lambda name: True, unblock=lambda name: done.append(f"{name} unblocked"), is_known=lambda _: True
        )
        self.workbench = settings
        self.authenticator = authenticator(identities=identities)

    def find_user(self, name: str) -> Any:
        return SimpleNamespace(name=name)


class Machine:
    """Notes what becomes of accounts; the archive of gh-ada takes until it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.begun, self.free, self.grace_is_closed = threading.Event(), threading.Event(), threading.Event()
        for name in ("close_account", "archive_account", "readmit_account"):
            monkeypatch.setattr(offboarding, name, getattr(self, name))
        for name in ("_accounts", "_archives"):
            monkeypatch.setattr(offboarding, name, asyncio.Lock())

    def close_account(self, settings: Settings, name: str) -> list[str]:
        self.done.append(f"{name} closed")
        if name == "gh-grace":
            self.grace_is_closed.set()
        return []

    def archive_account(self, settings: Settings, name: str) -> list[str]:
        if name == "gh-ada":
            self.begun.set()
            assert self.free.wait(20)
        self.done.append(f"{name} archived")
        return []

    def readmit_account(self, settings: Settings, name: str) -> list[str]:
        return []


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    return Settings.load()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_nothing_of_who_is_off_boarded_works_while_another_home_is_archived(settings, machine):
    async def act() -> None:
        first = asyncio.ensure_future(Request(settings, machine.done).post("gh-ada"))
        assert await asyncio.to_thread(machine.begun.wait, 20)
        second = asyncio.ensure_future(Request(settings, machine.done).post("gh-grace"))
        assert await asyncio.to_thread(machine.grace_is_closed.wait, 20)
        machine.free.set()
        await asyncio.gather(first, second)

    asyncio.run(act())

    assert machine.done == [
        *("gh-ada blocked", "gh-ada out", "gh-ada closed"),
        *("gh-grace blocked", "gh-grace out", "gh-grace closed"),
        *("gh-ada archived", "gh-grace archived"),
    ]


def test_nobody_is_let_in_again_while_the_rest_of_their_off_boarding_waits(settings, machine):
    async def act() -> None:
        first = asyncio.ensure_future(Request(settings, machine.done).post("gh-ada"))
        assert await asyncio.to_thread(machine.begun.wait, 20)
        second = asyncio.ensure_future(Request(settings, machine.done).post("gh-grace"))
        assert await asyncio.to_thread(machine.grace_is_closed.wait, 20)
        for name in ("gh-ada", "gh-grace"):
            with pytest.raises(HTTPError, match=f"{name} is being off-boarded") as refused:
                await Return(settings, machine.done).post(name)
            assert refused.value.status_code == 409
        machine.free.set()
        await asyncio.gather(first, second)
        assert machine.done[-2:] == ["gh-ada archived", "gh-grace archived"]
        await Return(settings, machine.done).post("gh-grace")

    asyncio.run(act())

    assert machine.done[-1] == "gh-grace unblocked"


def test_an_off_boarding_that_comes_while_somebody_is_let_in_again_wins(settings, machine, monkeypatch):
    readmitting, free = threading.Event(), threading.Event()

    def readmit(settings: Settings, name: str) -> list[str]:
        readmitting.set()
        assert free.wait(20)
        machine.done.append(f"{name} unlocked")
        return []

    monkeypatch.setattr(offboarding, "readmit_account", readmit)

    async def act() -> None:
        back = asyncio.ensure_future(Return(settings, machine.done).post("gh-grace"))
        assert await asyncio.to_thread(readmitting.wait, 20)
        out = asyncio.ensure_future(Request(settings, machine.done).post("gh-grace"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert machine.done[-1] == "gh-grace out"
        free.set()
        await asyncio.gather(back, out)

    asyncio.run(act())

    told = ("unblocked", "blocked", "out", "unlocked", "closed", "archived")
    assert machine.done == [f"gh-grace {each}" for each in told]


def test_a_home_stays_while_processes_of_its_owner_are_left(settings, machine, monkeypatch):
    def close(settings: Settings, name: str) -> list[str]:
        raise WorkbenchError("processes of gh-grace are left", remedy="See `ps`.")

    monkeypatch.setattr(offboarding, "close_account", close)

    asyncio.run(Request(settings, machine.done).post("gh-grace"))

    assert machine.done == ["gh-grace blocked", "gh-grace out"]
