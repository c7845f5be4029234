"""The address that strangers may post to: the signature of the body stands for a login."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from tornado.web import stream_request_body

from pipelines.service.rights import PipelinePaused, TooManyRefused
from pipelines.service.web.base import Handler
from pipelines.service.webhooks.signing import LARGEST_BYTES
from workbench.errors import AuditError, StoreUnavailable
from workbench.security.audit import Action
from workbench.security.audit.commands import audits_itself

BODY_SECONDS = 10.0
AGAIN_SECONDS = 60


@stream_request_body
class Webhook(Handler):
    """One request; its body is bounded before any of it is read. No cookie counts, so no form token is asked for."""

    async def prepare(self) -> None:
        """Called by tornado when the headers are there: nobody has to be signed in."""
        self._body = bytearray()
        self.request.connection.set_max_body_size(LARGEST_BYTES)  # type: ignore[union-attr]
        self.request.connection.set_body_timeout(BODY_SECONDS)  # type: ignore[union-attr]
        length = self.request.headers.get("Content-Length", "0")
        if re.fullmatch(r"[0-9]+", length) and int(length[:20]) > LARGEST_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def data_received(self, chunk: bytes) -> None:
        """Called by tornado with each part of the body."""
        self._body += chunk

    def wants_json(self) -> bool:
        """Always."""
        return True

    @audits_itself(Action.WEBHOOK_ACCEPTED)
    async def post(self, pipeline: str) -> None:
        """Called by tornado when the body is there."""
        headers, body = dict(self.request.headers), bytes(self._body)
        headers = {name.lower(): value for name, value in headers.items()}
        found = await self.beside(
            lambda: self.service.webhooks.receive(pipeline, headers, body), self.service.webhooks.threads
        )
        self.set_status(HTTPStatus.ACCEPTED)
        self.write_json(found)

    def write_error(self, status_code: int, **options: Any) -> None:
        """Called by tornado with what was raised."""
        error = options.get("exc_info", (None, None, None))[1]
        if isinstance(error, PipelinePaused | TooManyRefused | StoreUnavailable | AuditError):
            self.set_header("Retry-After", str(AGAIN_SECONDS))
        super().write_error(status_code, **options)
