"""An identity provider that a test controls: GitHub, Google and an OpenID Connect issuer on one loopback port.

    with IdentityProvider() as provider:
        provider.current_person = provider.person("grace")   # who the next login is; nobody is asked
        provider.person("grace").teams.clear()               # people may be changed at any time
        with provider.fault("token", Fault.hang(30)): ...
        provider.tampering = "wrong_nonce"                   # names: identity.id_tokens.TAMPERINGS

It is as strict as the real ones: PKCE with S256, codes that work once, exact callbacks, client secrets.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import serialization

from tests.services.identity.github import GitHub
from tests.services.identity.grants import Grants, Person
from tests.services.identity.id_tokens import TAMPERINGS, SigningKey
from tests.services.identity.oauth import Protocol, Route
from tests.services.identity.openid import Google, OpenId
from tests.services.identity.wire import Answer, Fault, Refused, Request, Server
from workbench.security.secrets import write_private

__all__ = ["TAMPERINGS", "Fault", "IdentityProvider", "Person", "Request", "make_people"]

KINDS = ("authorize", "token", "userinfo", "membership", "jwks", "discovery", "revoke", "logout")


def make_people() -> list[Person]:
    """Ada and Grace belong to the organization, domain and groups `example`; Mallory belongs nowhere."""
    ada = Person("ada", 1001, "Ada Lovelace", "ada@example.com", hd="example.com", organizations={"example"})
    ada.teams, ada.groups = {"example:owners", "example:engineers"}, {"admins@example.com", "staff@example.com"}
    grace = Person("grace", 1002, "Grace Hopper", "grace@example.com", hd="example.com", organizations={"example"})
    grace.teams, grace.groups = {"example:analysts"}, {"staff@example.com"}
    return [ada, grace, Person("mallory", 1003, "Mallory", "mallory@elsewhere.example")]


class IdentityProvider:
    """Answers from its own thread while it is entered; its attributes are what a test may change."""

    def __init__(self) -> None:
        self.people = make_people()
        self.current_person = self.people[0]
        self.denies = ""  #: error code for the callback, such as `access_denied`
        self.access_seconds = 3600.0
        self.github_tokens_expire = False
        self.rotates_refresh_tokens = {"oidc"}
        self.detects_reuse = True
        self.teams_per_page = 2
        self.tampering = ""
        self.discovery_changes: dict[str, Any] = {}
        self.faults: dict[str, Fault] = {}  #: by kind of endpoint (KINDS), or `protocol:kind`
        self.faulted: list[str] = []  #: `protocol:kind` of requests that met a fault; those that hang are in it already
        self.requests: list[Request] = []
        self.revoked: list[str] = []  #: tokens that somebody asked to revoke
        self.ended_sessions: list[str] = []
        self.keys = [SigningKey()]  #: published; the last one signs
        self.grants = Grants()
        self.service_key = SigningKey()
        self.directory_admin = "admin@example.com"
        self.directory_tokens: set[str] = set()
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._server = Server(self._respond)
        self.url = self._server.url
        self.protocols: Mapping[str, Protocol] = {each.name: each(self) for each in (GitHub, Google, OpenId)}
        self._routes = [(protocol.name, route) for protocol in self.protocols.values() for route in protocol.routes()]

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.close()

    @property
    def issuer(self) -> str:
        """The OpenID Connect issuer; Google's is `url` itself."""
        return f"{self.url}/realm"

    def person(self, login: str) -> Person:
        return next(each for each in self.people if each.login == login)

    def remove(self, login: str) -> None:
        """Delete an account; its tokens are worth nothing from now on."""
        self.people.remove(self.person(login))

    def reregister(self, login: str) -> Person:
        """Give the login of a deleted account to somebody else, with another number."""
        self.remove(login)
        newcomer = Person(login, max(each.number for each in self.people) + 5000, "Newcomer", f"{login}@other.example")
        self.people.append(newcomer)
        return newcomer

    def revoke_tokens(self, login: str) -> None:
        """Take back all that the person allowed, as on the provider's own pages."""
        with self._lock:
            self.grants.end_person(self.person(login))

    def expire_access_tokens(self) -> None:
        with self._lock:
            self.grants.expire_access()

    def rotate_keys(self, *, keeps_old: bool = True) -> None:
        """Sign with a new key; the old one stays published or goes."""
        self.keys = [*(self.keys if keeps_old else []), SigningKey()]

    @contextmanager
    def fault(self, kind: str, fault: Fault) -> Iterator[None]:
        """Let an endpoint misbehave for a while."""
        assert kind.rpartition(":")[2] in KINDS, f"no endpoint is a {kind!r}: {KINDS}"
        self.faults[kind] = fault
        try:
            yield
        finally:
            del self.faults[kind]

    @contextmanager
    def outage(self, fault: Fault | None = None) -> Iterator[None]:
        """Let all endpoints misbehave for a while; by default they answer 500."""
        before, self.faults = self.faults, dict.fromkeys(KINDS, fault or Fault.status(500))
        try:
            yield
        finally:
            self.faults = before

    def requests_to(self, path: str, method: str = "") -> list[Request]:
        """What came in for a path, the oldest first."""
        return [each for each in self.requests if each.path == path and method in ("", each.method)]

    def questions_about(self, person: Person, path: str) -> list[Request]:
        """What came in for a path with access tokens of one person, those too that are too old."""
        given = self.grants.access
        return [each for each in self.requests_to(path) if each.token in given and given[each.token].person is person]

    @property
    def revocations(self) -> int:
        return len(self.revoked)

    def note_revocation(self, token: str) -> None:
        self.revoked.append(token)

    def write_service_account(self, path: Path) -> Path:
        """The JSON key of a service account that may read groups in the name of `directory_admin`."""
        private = self.service_key.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        content = {
            "type": "service_account",
            "project_id": "tests",
            "private_key_id": self.service_key.id,
            "private_key": private.decode(),
            "client_email": "hub@tests.iam.gserviceaccount.example",
            "client_id": "1",
            "token_uri": f"{self.url}/service-account/token",
        }
        write_private(path, json.dumps(content))
        return path

    def _respond(self, request: Request) -> Answer | None:
        self.requests.append(request)
        matching = ((*each, found) for each in self._routes if (found := each[1].match(request)))
        protocol, route, found = next(matching, ("", None, None))
        if route is None or found is None:
            return Answer(status=404, body={"message": "Not Found"})
        fault = self.faults.get(f"{protocol}:{route.kind}") or self.faults.get(route.kind)
        if fault:
            self.faulted.append(f"{protocol}:{route.kind}")
        return self._spoiled(fault or Fault(), route, request, found.groups())

    def _spoiled(self, fault: Fault, route: Route, request: Request, found: tuple[str, ...]) -> Answer | None:
        self._closed.wait(fault.wait_seconds)
        answer = None
        if fault.handled or not (fault.hangs_up or fault.answer):
            answer = self._handle(route, request, found)
        return None if fault.hangs_up else fault.answer or answer

    def _handle(self, route: Route, request: Request, found: tuple[str, ...]) -> Answer:
        with self._lock:
            try:
                return route.handle(request, *found)
            except Refused as refused:
                return refused.answer
