"""The page of one flow, and the same while it goes on, as server-sent events: `state` is markup, `log` is text."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from tornado.iostream import StreamClosedError

from pipelines.runner.flows.log import LogTail
from pipelines.service.site.flows import log_of
from pipelines.service.web.base import Handler
from pipelines.service.web.streams import ALIVE_SECONDS, REREAD_SECONDS, STREAM_SECONDS, Stream
from workbench.security.audit.commands import not_audited

LOOK_SECONDS = 0.5  #: between two looks at the log
NO_RUN = 0  #: to hints: it counts among those who watch


class OfFlow(Handler):
    """How it stands, what can be done with it, and the end of its log."""

    @not_audited("It only looks, as far as the rights of who asks go.")
    async def get(self, flow: str) -> None:
        """Called by tornado."""
        self.page("flow.html", **await self.perform("show_flow", {"flow": flow}), my_right=self.person.right)


class LiveFlow(Stream):
    """A stream of one flow; ids say how far the log was read."""

    @not_audited("It only looks, as far as the rights of who asks go.")
    async def get(self, flow: str) -> None:
        """Called by tornado."""
        if not self.has_place():
            return
        with self.service.hints.watch(NO_RUN, self.person.name):
            found = await self.perform("show_flow", {"flow": flow})
            with contextlib.suppress(StreamClosedError):
                await self.begin()
                await self._stream(found, log_of(self.service.site, flow, self._position()))

    async def _stream(self, found: dict[str, Any], tail: LogTail) -> None:
        begun = read_at = said_at = time.monotonic()
        shown = ""
        while time.monotonic() - begun < STREAM_SECONDS:
            html = self.render_template("_flow.html", flow=found["flow"], my_right=self.person.right)
            if html != shown:
                shown, said_at = html, time.monotonic()
                await self.tell("state", {"html": html}, tail.position)
            # However long the log is, and however slowly it is taken: who this is is asked again.
            while (
                tail.has_more
                and time.monotonic() - read_at <= REREAD_SECONDS
                and (text := await self.beside(tail.new_text))
            ):
                said_at = time.monotonic()
                await self.tell("log", {"text": text}, tail.position)
            if time.monotonic() - said_at > ALIVE_SECONDS:
                said_at = time.monotonic()
                await self.tell_alive()
            await asyncio.sleep(LOOK_SECONDS)
            if time.monotonic() - read_at > REREAD_SECONDS:
                if not await self.may_go_on():
                    return
                read_at, found = time.monotonic(), await self.perform("show_flow", {"flow": found["flow"]["name"]})

    def _position(self) -> int:
        """How far the browser has read."""
        try:
            return max(int(self.last_id), 0)
        except ValueError:
            return 0
