"""One run while it goes on, as server-sent events (html.spec.whatwg.org, "Server-sent events").

`state` is the part of the page that shows steps and attempts, `output` is a list of what was put out,
`ended` is the end. Each carries an id that says how far it goes, which a browser sends when it
comes back: no line is shown twice, and none is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado.iostream import StreamClosedError

from pipelines.service.site.outputs import safe_path
from pipelines.service.site.tails import Item, Tail
from pipelines.service.web.pages import run_values
from pipelines.service.web.reads import record_read
from pipelines.service.web.streams import ALIVE_SECONDS, REREAD_SECONDS, STREAM_SECONDS, Stream
from workbench.security.audit import Action
from workbench.security.audit.commands import audits_itself

LOOK_SECONDS = 0.1  #: between two looks at logs


@dataclass
class Cursor:
    """How far somebody has read: an event of the store, and a place in the log of each attempt."""

    event: int = 0
    places: dict[int, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """What `str` of one made; the beginning for anything else."""
        try:
            first, _, rest = text.partition(";")
            pairs = [each.split(":") for each in rest.split(",") if each]
            return cls(int(first), {int(attempt): max(int(place), 0) for attempt, place in pairs})
        except ValueError:
            return cls()

    def __str__(self) -> str:
        return f"{self.event};{','.join(f'{attempt}:{place}' for attempt, place in self.places.items())}"


class Live(Stream):
    """A stream of one run."""

    @audits_itself(Action.OUTPUTS_READ)
    async def get(self, run: str) -> None:
        """Called by tornado."""
        if not self.has_place():
            return
        cursor = Cursor.parse(self.last_id)
        with self.service.hints.watch(int(run), self.person.name) as changed:
            values = await run_values(self, int(run), cursor.event)
            with contextlib.suppress(StreamClosedError):
                await self.begin()
                await self._stream(int(run), values, cursor, changed)

    async def _stream(self, run: int, values: dict[str, Any], cursor: Cursor, changed: asyncio.Event) -> None:
        begun, read_at, said_at = time.monotonic(), time.monotonic(), time.monotonic()
        tails: dict[int, Tail] = {}
        await self._tell_state(values, cursor)
        while time.monotonic() - begun < STREAM_SECONDS:
            if await self._follow(values["attempts"], tails, cursor.places):
                await record_read(self, values["run"], None)
            if await self._tell_output(tails, cursor):
                said_at = time.monotonic()
            elif values["run"]["ended_at"] is not None:
                await self.tell("ended", {"state": values["run"]["state"]}, cursor)
                return
            if time.monotonic() - said_at > ALIVE_SECONDS:
                said_at = time.monotonic()
                await self.tell_alive()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), LOOK_SECONDS)
            if changed.is_set() or time.monotonic() - read_at > REREAD_SECONDS:
                changed.clear()
                if not await self.may_go_on():
                    return
                read_at, values = time.monotonic(), await run_values(self, run, cursor.event)
                await self._tell_state(values, cursor)

    async def _follow(self, attempts: list[dict[str, Any]], tails: dict[int, Tail], places: Mapping[int, int]) -> bool:
        """Follow the outputs that are not followed yet; whether there are any."""
        site, new = self.service.site, [each for each in attempts if each["output_path"] and each["id"] not in tails]

        def find() -> dict[int, Tail]:
            paths = {each["id"]: safe_path(site, each["output_path"]) for each in new}
            return {attempt: Tail.of(path, places.get(attempt), site.keys) for attempt, path in paths.items() if path}

        if not new:
            return False
        # Where the end of a long encrypted log begins is found frame by frame, with a key that may be elsewhere.
        found = await self.beside(find)
        tails.update(found)
        return bool(found)

    async def _tell_state(self, values: dict[str, Any], cursor: Cursor) -> None:
        if cursor.event and not values["events"]:
            return
        cursor.event = max((each["id"] for each in values["events"]), default=cursor.event)
        await self.tell("state", {"html": self.render_template("_steps.html", **values)}, cursor)

    async def _tell_output(self, tails: dict[int, Tail], cursor: Cursor) -> bool:
        """Tell what is new; whether there was anything."""
        grown = {attempt: tail for attempt, tail in tails.items() if tail.has_more}
        told = False
        for attempt, tail in grown.items():
            before = tail.position
            items: list[Item] = await self.beside(tail.read)
            cursor.places[attempt] = tail.position
            if items:
                await self.tell("output", {"attempt": attempt, "items": items}, cursor)
            told = told or tail.position > before
        return told
