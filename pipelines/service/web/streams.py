"""What server-sent events of one run and of one flow share: who may follow, how many at once, and for how long."""

from __future__ import annotations

import contextlib
from http import HTTPStatus

from tornado.web import HTTPError

from pipelines.service.rights import Right
from pipelines.service.web.base import Handler

REREAD_SECONDS = 2.0  #: after which the store is asked without a hint, and the entrance who this is
ALIVE_SECONDS = 15.0  #: after which a comment is sent, since proxies end what is silent
STREAM_SECONDS = 600.0  #: after which a browser comes back
MOST_STREAMS = 200
MOST_STREAMS_EACH = 20  #: of one person, who must not take the places of all others
AGAIN_MILLISECONDS = 1000


class Stream(Handler):
    """A stream for as long as who follows it may look."""

    def wants_json(self) -> bool:
        """Always: a stream cannot be sent to a login."""
        return True

    def has_place(self) -> bool:
        """Whether one more may be followed by this person; else that is what is answered."""
        hints = self.service.hints
        if hints.count < MOST_STREAMS and hints.count_of(self.person.name) < MOST_STREAMS_EACH:
            return True
        self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
        return False

    def begin(self) -> None:
        """Send what comes before the first event."""
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        self.write(f"retry: {AGAIN_MILLISECONDS}\n\n")

    async def may_go_on(self) -> bool:
        """Whether who follows is still known and has a right, which may be another one now. When nobody can say, no."""
        found = None
        with contextlib.suppress(HTTPError):
            found = await self.service.entrance.person(self)
        if found is None or found.right is Right.NONE:
            return False
        self.person = found
        return True
