"""Streams of a run and of a flow end with the right to see them, and nobody takes the places of all."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from pipelines.service.application import build_application, build_templates
from pipelines.service.entrance import hub
from pipelines.service.entrance.alone import AloneEntrance
from pipelines.service.entrance.hub import HubAddress, HubEntrance
from pipelines.service.rights import Person, Right
from pipelines.service.web import base, flows, live, streams
from pipelines.service.web.base import Service
from pipelines.service.web.hints import Hints
from tests.services.http_server import listening

TOKEN = "viewer-token"
VIEWER = Person(name="grace", right=Right.VIEWER)
FLOW = {
    "flow": {
        "name": "orders", "state": "running", "since": None, "next_start_at": None, "asked_by": "", "reason": "",
        "has_file": True,
    }
}  # fmt: skip
RUN = {
    "run": {
        "id": 1, "state": "running", "reason": "", "partition": None, "started_at": None, "ended_at": None,
        "requested_by": "grace", "trigger": "manual",
    },
    "steps": [], "attempts": [], "events": [],
}  # fmt: skip
PATHS = ("flows/orders/events", "runs/1/events")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Looks often; what the store would answer stands here, as no right is decided there."""

    def perform(site: object, person: Person, operation: Any, given: object, *, of_form: bool) -> base.Done:
        answer = FLOW if "flow" in given else RUN
        return base.Done(answer=answer, owner="", right=person.right)

    monkeypatch.setattr(base, "perform", perform)
    for module in (flows, live):
        monkeypatch.setattr(module, "REREAD_SECONDS", 0.01)
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)


@asynccontextmanager
async def serving(entrance: Any, home: Path, hints: Hints | None = None) -> AsyncIterator[str]:
    service = Service(
        site=SimpleNamespace(home=home, keys=None), entrance=entrance, prefix="/", templates=build_templates(),
        hints=hints or Hints(asyncio.get_running_loop()), webhooks=None, sign=None, rendering=None, key=b"k",
    )  # fmt: skip
    application: Application = build_application(service)
    server, sockets = HTTPServer(application), bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}/"
    finally:
        server.stop()
        await server.close_all_connections()


class Follower:
    """Follows a stream until it ends."""

    def __init__(self, address: str, token: str = TOKEN) -> None:
        self.begun = asyncio.Event()
        self.answer = asyncio.ensure_future(
            AsyncHTTPClient(force_instance=True).fetch(
                address,
                headers={"Authorization": f"token {token}"},
                streaming_callback=lambda _: self.begun.set(),
                raise_error=False,
                request_timeout=60,
            )
        )

    async def code(self) -> int:
        return (await asyncio.wait_for(self.answer, 30)).code


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("change", ["out", "no right"])
def test_a_stream_ends_when_who_follows_it_was_shown_out(tmp_path, path, change):
    async def follow() -> None:
        people = {TOKEN: VIEWER}
        async with serving(AloneEntrance(people), tmp_path) as url:
            follower = Follower(url + path)
            await asyncio.wait_for(follower.begun.wait(), 30)
            await asyncio.sleep(0)
            assert not follower.answer.done()

            people.update({TOKEN: replace(VIEWER, right=Right.NONE)} if change == "no right" else {})
            if change == "out":
                people.clear()

            assert await follower.code() == 200

    asyncio.run(follow())


@pytest.mark.parametrize("path", PATHS)
def test_the_hub_is_asked_again_while_a_stream_goes_on(tmp_path, monkeypatch, path):
    """JupyterHub's client remembers its answer for a request, which a stream is for minutes."""
    monkeypatch.setattr(hub, "KNOWN_SECONDS", 1)
    known = {"name": "grace", "kind": "user", "groups": ["viewers"], "scopes": ["access:services"]}

    async def follow(address: HubAddress, answers: list[dict[str, object] | None]) -> None:
        async with serving(HubEntrance(address), tmp_path) as url:
            follower = Follower(url + path)
            await asyncio.wait_for(follower.begun.wait(), 30)
            answers[0] = None
            assert await follower.code() == 200
            assert await Follower(url + path).code() == 401

    with answering(known) as (api_url, answers):
        address = HubAddress(
            port=0, prefix="/services/pipelines/", hub_prefix="/hub/", host="", hub_host="", api_url=api_url,
            rights={"viewers": "viewer"}, token="t",
        )  # fmt: skip
        asyncio.run(follow(address, answers))


@contextmanager
def answering(known: dict[str, object]) -> Iterator[tuple[str, list[dict[str, object] | None]]]:
    """What the hub's API answers to who asks for the owner of a token; None is nobody."""
    answers: list[dict[str, object] | None] = [known]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers[0]
            body = json.dumps(found or {}).encode()
            self.send_response(403 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as port:
        yield f"http://127.0.0.1:{port}/hub/api", answers


def test_one_person_takes_no_more_than_their_places_and_gives_them_back(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MOST_STREAMS_EACH", 2)

    async def follow() -> None:
        people = {TOKEN: VIEWER, "other": replace(VIEWER, name="ada")}
        async with serving(AloneEntrance(people), tmp_path) as url:
            mine = [Follower(url + path) for path in PATHS]
            for each in mine:
                await asyncio.wait_for(each.begun.wait(), 30)

            assert await Follower(url + PATHS[0]).code() == 503
            other = Follower(url + PATHS[0], "other")
            await asyncio.wait_for(other.begun.wait(), 30)

            del people[TOKEN]
            assert [await each.code() for each in mine] == [200, 200]
            people[TOKEN] = VIEWER
            again = Follower(url + PATHS[0])
            await asyncio.wait_for(again.begun.wait(), 30)
            people.clear()
            assert [await other.code(), await again.code()] == [200, 200]

    asyncio.run(follow())


class EndingHints(Hints):
    """Tells when somebody follows no more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.ended = asyncio.Event()

    @contextmanager
    def watch(self, run: int, who: str) -> Iterator[asyncio.Event]:
        with super().watch(run, who) as changed:
            yield changed
        self.ended.set()


@pytest.mark.parametrize("path", PATHS)
def test_who_reads_nothing_loses_the_place(tmp_path, monkeypatch, path):
    monkeypatch.setattr(streams, "TAKEN_SECONDS", 0.05)
    more_than_buffers_hold = "x" * 16_000_000
    monkeypatch.setitem(FLOW["flow"], "reason", more_than_buffers_hold)
    monkeypatch.setitem(RUN["run"], "reason", more_than_buffers_hold)

    async def follow() -> None:
        hints = EndingHints(asyncio.get_running_loop())
        async with serving(AloneEntrance({TOKEN: VIEWER}), tmp_path, hints) as url:
            with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as silent:
                silent.sendall(f"GET /{path} HTTP/1.1\r\nHost: h\r\nAuthorization: token {TOKEN}\r\n\r\n".encode())
                await asyncio.wait_for(hints.ended.wait(), 30)
                assert (hints.count, hints.count_of(VIEWER.name)) == (0, 0)

    asyncio.run(follow())


def test_a_long_log_is_opened_beside_the_event_loop(tmp_path, monkeypatch):
    threads: list[int] = []
    monkeypatch.setattr(live, "safe_path", lambda site, path: tmp_path / path)
    monkeypatch.setattr(
        live.Tail, "of", lambda *_: threads.append(threading.get_ident()) or live.Tail(tmp_path / "log")
    )
    attempts = [{"id": 1, "output_path": "output.ipynb", "error": "", "resumed_from": None}]
    monkeypatch.setitem(RUN, "attempts", attempts)
    monkeypatch.setitem(RUN, "run", {**RUN["run"], "ended_at": datetime.now(UTC), "stop": None})

    async def follow() -> None:
        async with serving(AloneEntrance({TOKEN: VIEWER}), tmp_path) as url:
            assert await Follower(url + "runs/1/events").code() == 200

    asyncio.run(follow())
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize("header", [True, False])
def test_who_comes_back_says_how_far_in_a_header_or_in_the_address(tmp_path, monkeypatch, header):
    monkeypatch.setitem(RUN, "run", {**RUN["run"], "ended_at": datetime.now(UTC), "stop": None})

    async def follow() -> str:
        async with serving(AloneEntrance({TOKEN: VIEWER}), tmp_path) as url:
            last = {"Last-Event-ID": "5;1:10"} if header else {}
            answer = await AsyncHTTPClient(force_instance=True).fetch(
                f"{url}runs/1/events?after={'1' if header else '5%3B1:10'}",
                headers={"Authorization": f"token {TOKEN}", **last},
            )
            return answer.body.decode()

    assert asyncio.run(follow()).endswith('id: 5;1:10\nevent: ended\ndata: {"state": "running"}\n\n')


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("token", "code"), [(TOKEN, 200), ("nobody's", 401), ("no right's", 403)])
def test_a_page_that_is_given_no_stream_is_told_whether_it_may_look(tmp_path, path, token, code):
    async def ask() -> int:
        people = {TOKEN: VIEWER, "no right's": replace(VIEWER, right=Right.NONE)}
        async with serving(AloneEntrance(people), tmp_path) as url:
            answer = await AsyncHTTPClient(force_instance=True).fetch(
                url + path, method="HEAD", headers={"Authorization": f"token {token}"}, raise_error=False
            )
            return answer.code

    assert asyncio.run(ask()) == code
