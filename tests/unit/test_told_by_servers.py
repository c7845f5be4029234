"""What a user's server tells the hub for the audit log, and what the hub makes of it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_core.utils import ensure_async
from jupyter_server.base.call_context import CallContext
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager, LargeFileManager
from tornado import web
from tornado.httpclient import AsyncHTTPClient

from hub import told
from workbench.embedded import telling as telling_module
from workbench.embedded.contents_reports import CONTENTS_ACTIONS, ContentsReports
from workbench.embedded.kernel_reports import KERNEL_ACTIONS, KernelReports
from workbench.embedded.telling import Telling
from workbench.security.audit import Action
from workbench.security.throttle import Repeats, Throttle


class Heard:
    """Stands for what sends to the hub."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []

    def tell(self, page: str, said: Mapping[str, object]) -> None:
        self.told.append((page, dict(said)))


def hear(reports: Any, *happened: dict[str, object]) -> None:
    async def act() -> None:
        for data in happened:
            await reports.hear(logger=None, schema_id="", data=data)

    asyncio.run(act())


def test_what_changes_files_is_told():
    heard = Heard()
    hear(
        ContentsReports(heard),
        {"action": "get", "path": "data/a.csv"},
        {"action": "save", "path": "/data"},
        {"action": "rename", "path": "b.ipynb", "source_path": "a.ipynb"},
        {"action": "copy", "path": "c.ipynb", "source_path": "b.ipynb"},
        {"action": "delete", "path": "b.ipynb"},
        {},
    )

    assert {page for page, _ in heard.told} == {"contents"}
    assert [(said["action"], said["path"], said["from"]) for _, said in heard.told] == [
        ("save", "data", ""),
        ("rename", "b.ipynb", "a.ipynb"),
        ("delete", "b.ipynb", ""),
    ]


def test_a_file_that_is_saved_again_and_again_is_told_once_a_minute():
    heard = Heard()
    hear(ContentsReports(heard), *[{"action": "save", "path": "a"}] * 50, *[{"action": "delete", "path": "a"}] * 2)

    assert [said["action"] for _, said in heard.told] == ["save", "delete", "delete"]


@pytest.mark.parametrize("manager", [AsyncLargeFileManager, LargeFileManager])
def test_files_that_are_read_are_told_and_those_that_are_only_listed_are_not(tmp_path, manager):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("canary")
    heard, contents = Heard(), manager(root_dir=str(tmp_path))
    ContentsReports(heard).hear_reads(contents)

    async def act() -> None:
        assert len((await ensure_async(contents.get("data")))["content"]) == 1
        assert "content" in await ensure_async(contents.get("data/a.csv", content=False))
        assert heard.told == []
        for _ in range(2):
            assert (await ensure_async(contents.get("data/a.csv", type="file")))["content"] == "canary"
        with pytest.raises(web.HTTPError):
            await ensure_async(contents.get("absent"))

    asyncio.run(act())
    assert heard.told == [("contents", {"action": "get", "path": "data/a.csv", "from": "", "by": ""})]


def test_a_read_succeeds_whatever_becomes_of_its_telling(tmp_path):
    (tmp_path / "a.txt").write_text("canary")
    contents = LargeFileManager(root_dir=str(tmp_path))
    ContentsReports(Telling("http://hub/api", "t", "")).hear_reads(contents)

    assert contents.get("a.txt")["content"] == "canary"  # there is no event loop to tell it in


def test_repeats_are_those_of_a_minute_and_of_so_many_things():
    now = [0.0]
    repeats = Repeats(seconds=60, most=2, clock=lambda: now[0])

    assert (repeats.is_new("a"), repeats.is_new("a")) == (True, False)
    now[0] = 59.0
    assert not repeats.is_new("a")
    now[0] = 60.0
    assert repeats.is_new("a")
    assert repeats.is_new("b")
    assert repeats.is_new("c")  # and "a" is forgotten
    assert not repeats.is_new("b")
    assert repeats.is_new("a")


def test_kernels_are_told_once_they_have_started_or_ended():
    heard = Heard()
    hear(
        KernelReports(heard),
        {"action": "start", "status": "success", "kernel_id": "k", "kernel_name": "python3"},
        {"action": "shutdown", "status": "error", "kernel_id": "k"},
        {"action": "interrupt", "status": "success", "kernel_id": "k"},
    )

    assert heard.told == [("kernels", {"action": "start", "kernel": "k", "name": "python3", "by": ""})]


def test_who_visits_the_server_of_somebody_else_is_named(monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_USER", "gh-ada")
    heard = Heard()
    reports = ContentsReports(heard)

    def serve(person: str, action: str) -> None:
        CallContext.set(CallContext.JUPYTER_HANDLER, SimpleNamespace(current_user=SimpleNamespace(username=person)))
        hear(reports, {"action": action, "path": "a.csv"})

    def act() -> None:
        serve("gh-ada", "delete")
        serve("gh-bob", "delete")
        serve("gh-ada", "save")
        serve("gh-bob", "save")

    contextvars.copy_context().run(act)

    assert [(said["action"], said["by"]) for _, said in heard.told] == [
        ("delete", ""), ("delete", "gh-bob"), ("save", ""), ("save", "gh-bob"),
    ]  # fmt: skip
    assert told.CONTENTS.read("gh-ada", heard.told[1][1]).details == {"path": "a.csv", "by": "gh-bob"}


@pytest.mark.parametrize("schema", [KERNEL_ACTIONS, CONTENTS_ACTIONS])
def test_jupyter_server_has_the_events(schema):
    from jupyter_server.serverapp import ServerApp

    server = ServerApp()
    server.init_event_logger()
    assert schema in server.event_logger.schemas


def test_a_hub_that_does_not_answer_breaks_nothing_and_piles_up_nothing(monkeypatch, caplog):
    sent = []

    async def fail(self: object, request: Any) -> None:
        sent.append(request)
        await asyncio.sleep(0)
        raise OSError("no hub")

    monkeypatch.setattr(AsyncHTTPClient, "fetch", fail)
    monkeypatch.setattr(telling_module, "MOST_WAITING", 3)

    async def act() -> None:
        telling = Telling("http://hub/api", "canary", "second")
        for number in range(5):
            telling.tell("contents", {"action": "get", "path": str(number)})
        while telling._tasks:
            await asyncio.gather(*telling._tasks)
        assert telling._throttles["contents", "get"].admit() == 5, "none of them is forgotten"

    asyncio.run(act())
    assert len(sent) == 3
    assert sent[0].url == "http://hub/api/workbench/contents"
    assert sent[0].body == b'{"action": "get", "path": "0", "server": "second", "left_out": 0}'
    assert "canary" not in caplog.text
    assert caplog.text.count("was not told of contents") == 5


def test_a_server_sends_so_much_in_a_minute_and_says_how_much_it_left_out(monkeypatch):
    sent: list[dict[str, Any]] = []

    async def keep(self: Telling, page: str, said: dict[str, Any], throttle: Throttle) -> None:
        sent.append(said)

    monkeypatch.setattr(Telling, "_send", keep)
    now = [0.0]
    monkeypatch.setattr(telling_module, "Throttle", lambda most: Throttle(2, clock=lambda: now[0]))

    async def act() -> None:
        telling = Telling("http://hub/api", "t", "")
        for _ in range(5):
            telling.tell("statements", {})
        now[0] = 60.0
        telling.tell("statements", {})
        await asyncio.gather(*telling._tasks)

    asyncio.run(act())
    assert [said["left_out"] for said in sent] == [0, 0, 3]
    assert [told.read_left_out({"left_out": each}) for each in (3, -1, True, "3", 10**30, None)] == [3, 0, 0, 0, 0, 0]


def test_a_server_without_a_hub_tells_nobody(monkeypatch):
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)

    assert Telling.of_environment() is None


def test_the_hub_takes_what_a_server_says_of_its_owner_alone():
    event = told.CONTENTS.read(
        "gh-ada", {"action": "rename", "path": "b", "from": "a", "server": "s", "actor": "gh-grace", "left_out": 9}
    )

    assert (event.actor, event.action, event.resource) == ("gh-ada", Action.CONTENTS_RENAMED, "server:gh-ada/s")
    assert event.details == {"path": "b", "from": "a"}


@pytest.mark.parametrize("body", [None, [], {}, {"action": "copy"}, {"action": ["get"]}, {"action": "start"}])
def test_the_hub_takes_nothing_else(body):
    with pytest.raises(web.HTTPError) as refused:
        told.CONTENTS.read("gh-ada", body)
    assert refused.value.status_code == 400
