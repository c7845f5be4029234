"""How the service knows who asks."""

from __future__ import annotations

from typing import Any, Protocol

from tornado.web import RequestHandler

from pipelines.service.rights import Person


class Entrance(Protocol):
    """Somebody else's word for who asks."""

    async def person(self, handler: RequestHandler) -> Person | None:
        """Who asks; None when nobody knows."""

    def sign_in(self, handler: RequestHandler) -> str | None:
        """Where a browser is sent to sign in and come back; None when there is no such address."""

    def routes(self, prefix: str) -> list[Any]:
        """Handlers of its own, below the address of the service."""
