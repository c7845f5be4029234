"""Without a hub: whoever has the token is the person that it was made for. On loopback only."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tornado.web import RequestHandler

from pipelines.service.entrance.path_only import PathOnly
from pipelines.service.rights import Person
from workbench.security.audit.commands import not_audited

COOKIE = "workbench-pipelines"


class AloneEntrance:
    """Tokens in a header, or in a cookie that `sign-in?token=` sets.

    Args:
        people: by token.
    """

    def __init__(self, people: Mapping[str, Person]) -> None:
        self._people = people

    async def person(self, handler: RequestHandler) -> Person | None:
        """See `Entrance`."""
        scheme, _, token = handler.request.headers.get("Authorization", "").partition(" ")
        if token and scheme.lower() in {"token", "bearer"}:
            found = self.by_token(token)
            return None if found is None else replace(found, is_program=True)
        cookie = handler.get_secure_cookie(COOKIE)
        return None if cookie is None else self.by_token(cookie.decode())

    def sign_in(self, handler: RequestHandler) -> str | None:
        """See `Entrance`: the address with the token was printed."""
        return None

    def routes(self, prefix: str) -> list[Any]:
        """See `Entrance`."""
        return [(f"{prefix}sign-in", _SignIn, {"entrance": self, "prefix": prefix})]

    def by_token(self, token: str) -> Person | None:
        """The person that a token was made for."""
        for known, person in self._people.items():
            if hmac.compare_digest(known.encode(), token.encode()):
                return replace(person, session=hashlib.sha256(token.encode()).digest())
        return None


class _SignIn(PathOnly):
    """Puts the token into a cookie, out of the address."""

    def initialize(self, entrance: AloneEntrance, prefix: str) -> None:
        self._entrance, self._prefix = entrance, prefix

    @not_audited("Without a hub there is one person, who has the address; that the service was started is recorded.")
    def get(self) -> None:
        token = self.get_query_argument("token", "")
        if self._entrance.by_token(token) is not None:
            self.set_secure_cookie(COOKIE, token, httponly=True, samesite="Strict", path=self._prefix)
        self.redirect(self._prefix)
