"""What server-sent events of one run and of one flow share: who may follow, how many at once, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from pipelines.service.rights import Right
from pipelines.service.web.base import Handler, as_json
from workbench.security.audit.commands import not_audited

REREAD_SECONDS = 2.0  #: after which the store is asked without a hint, and the entrance who this is
ALIVE_SECONDS = 15.0  #: after which a comment is sent, since proxies end what is silent
STREAM_SECONDS = 600.0  #: after which a browser comes back
TAKEN_SECONDS = 60.0  #: in which an event has to be taken, of up to 2 MB, by who has a slow line
MOST_STREAMS = 200
MOST_STREAMS_EACH = 20  #: of one person, who must not take the places of all others
AGAIN_MILLISECONDS = 1000


class Stream(Handler):
    """A stream for as long as who follows it may look."""

    def wants_json(self) -> bool:
        """Always: a stream cannot be sent to a login."""
        return True

    @not_audited("It only says whether who asks may look.")
    def head(self, of: str) -> None:
        """Called by tornado when a page asks why it was given no stream: whoever may not look is refused before this."""
        self.finish()

    @property
    def last_id(self) -> str:
        """Of the last event that was taken: as a browser says when it comes back by itself, else as its page does."""
        return self.request.headers.get("Last-Event-ID") or self.get_query_argument("after", "")

    def has_place(self) -> bool:
        """Whether one more may be followed by this person; else that is what is answered."""
        hints = self.service.hints
        if hints.count < MOST_STREAMS and hints.count_of(self.person.name) < MOST_STREAMS_EACH:
            return True
        self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
        return False

    async def begin(self) -> None:
        """Send what comes before the first event; raises as `send`."""
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        await self.send(f"retry: {AGAIN_MILLISECONDS}\n\n")

    async def tell(self, event: str, data: dict[str, Any], position: object) -> None:
        """Send an event whose id is *position*; raises as `send`."""
        await self.send(f"id: {position}\nevent: {event}\ndata: {as_json(data)}\n\n")

    async def tell_alive(self) -> None:
        """Send what shows nothing; raises as `send`."""
        await self.send(": still here\n\n")

    async def send(self, text: str) -> None:
        """Send *text*, and wait until it is taken.

        Raises:
            StreamClosedError: when who follows has gone, or has not taken it in time: their place is free then.
        """
        self.write(text)
        try:
            await asyncio.wait_for(self.flush(), TAKEN_SECONDS)
        except TimeoutError:
            # What is left of the event is not sent: the browser comes back with the id of the one before.
            self.detach().close()
            raise StreamClosedError from None

    async def may_go_on(self) -> bool:
        """Whether who follows is still known and has a right, which may be another one now. When nobody can say, no."""
        found = None
        with contextlib.suppress(HTTPError):
            found = await self.service.entrance.person(self)
        if found is None or found.right is Right.NONE:
            return False
        self.person = found
        return True
