"""What the three protocols have in common: clients, the authorization endpoint, codes for tokens."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tests.services.identity.grants import Grant, Person
from tests.services.identity.wire import Answer, Refused, Request

if TYPE_CHECKING:
    from tests.services.identity_provider import IdentityProvider


@dataclass(frozen=True)
class Route:
    """An endpoint: its kind is what faults are set on."""

    kind: str
    methods: frozenset[str]
    path: re.Pattern[str]
    handle: Callable[..., Answer]

    def match(self, request: Request) -> re.Match[str] | None:
        return self.path.fullmatch(request.path) if request.method in self.methods else None


def route(kind: str, methods: str, path: str, handle: Callable[..., Answer]) -> Route:
    return Route(kind, frozenset(methods.split()), re.compile(path), handle)


@dataclass
class Client:
    """The hub, as it is registered with one of the protocols."""

    id: str
    secret: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    callbacks: set[str] = field(default_factory=set)
    after_logout: set[str] = field(default_factory=set)


class Protocol:
    """One of the protocols that the provider speaks."""

    name: str
    forever = False  #: access tokens do not expire

    def __init__(self, provider: IdentityProvider) -> None:
        self.provider = provider
        self.client = Client(f"{self.name}-client")

    def routes(self) -> list[Route]:
        raise NotImplementedError

    def authorize(self, request: Request) -> Answer:
        """Redirect back with a code for whoever it is; nobody is asked."""
        query = request.query
        if query.get("client_id") != self.client.id:
            raise Refused(400, {"error": "unauthorized_client", "error_description": "client_id is unknown"})
        redirect_uri = query.get("redirect_uri", "")
        if redirect_uri not in self.client.callbacks:
            raise Refused(400, {"error": "redirect_uri_mismatch", "error_description": f"{redirect_uri!r}"})
        told = {"state": query.get("state", ""), **self.sender()}
        if problem := self._problem(query):
            return _redirect(redirect_uri, error=problem, **told)
        grant = Grant(
            person=self._person_of(request),
            protocol=self.name,
            client_id=self.client.id,
            scopes=tuple(query.get("scope", "").split()),
            nonce=query.get("nonce", ""),
            challenge=query["code_challenge"],
            redirect_uri=redirect_uri,
            is_offline=query.get("access_type") == "offline" or self.name == "oidc",
        )
        return _redirect(redirect_uri, code=self.provider.grants.give_code(grant), **told)

    def sender(self) -> dict[str, str]:
        """What tells the client who answers (RFC 9207)."""
        return {}

    def _problem(self, query: Mapping[str, str]) -> str:
        if self.provider.denies:
            return self.provider.denies
        if query.get("response_type") != "code":
            return "unsupported_response_type"
        if query.get("code_challenge_method") != "S256" or not query.get("code_challenge"):
            return "invalid_request"
        return ""

    def _person_of(self, request: Request) -> Person:
        cookie = SimpleCookie(request.headers.get("cookie", "")).get("person")
        login = (
            request.headers.get("x-test-person") or (cookie and cookie.value) or request.query.get("login_hint") or ""
        )
        return self.provider.person(login) if login else self.provider.current_person

    def check_client(self, request: Request) -> None:
        client_id, secret = request.client
        if (client_id, secret) != (self.client.id, self.client.secret):
            raise Refused(401, {"error": "invalid_client", "error_description": "client id or secret is wrong"})

    def grant_of(self, request: Request) -> Grant:
        """The grant of the request's access token, when it is one of this protocol."""
        grant = self.provider.grants.access.get(request.token)
        is_good = grant is not None and self.provider.grants.find(request.token) is not None
        if not is_good or grant.protocol != self.name or grant.person not in self.provider.people:
            raise Refused(401, {"message": "Bad credentials", "error": "invalid_token"})
        return grant


def _redirect(address: str, **query: str) -> Answer:
    return Answer(status=302, headers={"Location": f"{address}?{urlencode(query)}", "Cache-Control": "no-store"})
