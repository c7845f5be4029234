"""Off-boarding somebody does not wait for the archive of somebody else."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from hub import offboarding
from hub.offboarding import Offboard
from workbench.settings import Settings


class Request(Offboard):
    """The command for somebody; notes what is done."""

    body: dict[str, Any] = {}  # noqa: RUF012
    actor = "operator:root"
    authenticator = None

    def __init__(self, settings: Settings, done: list[str]) -> None:
        async def record(*_: Any, **__: Any) -> None:
            """Nothing is kept."""

        self.workbench, self.done = settings, done
        self.authenticator = SimpleNamespace(audit=SimpleNamespace(record=record))

    def check_known(self, name: str) -> Any:
        return SimpleNamespace(name=name)

    async def _block(self, name: str) -> list[str]:
        self.done.append(f"{name} blocked")
        return []

    async def expel(self, user: Any, reason: str) -> list[str]:
        self.done.append(f"{user.name} out")
        return []

    async def tell(self, **line: object) -> None:
        """Nobody listens."""


def test_who_is_off_boarded_is_out_while_another_home_is_archived(monkeypatch, tmp_path):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    done: list[str] = []
    begun, free = threading.Event(), threading.Event()

    def archive(settings: Settings, name: str, *, keep_home: bool) -> list[str]:
        begun.set()
        assert free.wait(20)
        done.append(f"{name} archived")
        return []

    monkeypatch.setattr(offboarding, "offboard_account", archive)
    monkeypatch.setattr(offboarding, "_one_at_a_time", asyncio.Lock())

    async def act() -> None:
        settings = Settings.load()
        first = asyncio.ensure_future(Request(settings, done).post("gh-ada"))
        assert await asyncio.to_thread(begun.wait, 20)
        second = asyncio.ensure_future(Request(settings, done).post("gh-grace"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert done == ["gh-ada blocked", "gh-ada out", "gh-grace blocked", "gh-grace out"]
        free.set()
        await asyncio.gather(first, second)

    asyncio.run(act())

    assert done[4:] == ["gh-ada archived", "gh-grace archived"]
