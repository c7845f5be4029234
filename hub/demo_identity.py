"""A loopback identity provider for the first run: GitHub's and Google's protocol, with a consent page.

It lets the real login code run before anybody has registered an OAuth client. Other users of
the machine can reach loopback too, so the consent page asks for the sign-in code that
`workbench up` shows to the person who started it (as Jupyter does with its token).

It refuses to start when the hub listens on anything but loopback or a real client id is set.

Protocol: RFC 6749 (authorization code), RFC 7636 (PKCE, S256 only); the paths and fields are
GitHub's (docs.github.com, "Authorizing OAuth apps") and Google's (developers.google.com,
"OpenID Connect") as OAuthenticator 17 calls them.

Run by the supervisor: `python -m hub.demo_identity`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tornado.web import Application, HTTPError, RequestHandler

from hub.addresses import HubPorts, public_url
from workbench.errors import SettingsError, WorkbenchError
from workbench.sections import is_loopback
from workbench.security.secrets import ensure_code, ensure_token
from workbench.settings import Settings

CODE_SECONDS = 60.0
TOKEN_SECONDS = 7 * 86400.0  # GitHub's do not expire; nobody is asked for the code every hour
FAILURES_PER_MINUTE = 10


@dataclass(frozen=True)
class Person:
    """Somebody who can log in without an account anywhere."""

    login: str
    name: str
    number: int
    note: str
    belongs: bool = True  #: to the organization that the hub lets in

    @property
    def mail(self) -> str:
        """An address of the domain that RFC 2606 reserves for examples."""
        return f"{self.login}@example.com"


PEOPLE = (
    Person("ada", "Ada Lovelace", 1001, "administrator, with GitHub"),
    Person("grace", "Grace Hopper", 1002, "analyst"),
    Person("mallory", "Mallory", 1003, "belongs nowhere; the hub refuses her", belongs=False),
)


@dataclass(frozen=True)
class Grant:
    """What a code or a token stands for."""

    person: Person
    expires: float  #: time.monotonic()
    challenge: str = ""
    redirect_uri: str = ""


@dataclass
class Issuer:
    """The provider's memory: codes and tokens that it gave out, wrong sign-in codes."""

    sign_in_code: str = field(repr=False)
    client_secret: str = field(repr=False)
    callbacks: frozenset[str]
    client_id: str = "workbench-demo"
    codes: dict[str, Grant] = field(default_factory=dict, repr=False)
    tokens: dict[str, Grant] = field(default_factory=dict, repr=False)
    failures: deque[float] = field(default_factory=deque, repr=False)

    def check_client(self, client_id: str, redirect_uri: str) -> None:
        """Refuse clients and callbacks that are not the hub's, before anything is shown (RFC 6749 §4.1.2.1)."""
        if client_id != self.client_id or redirect_uri not in self.callbacks:
            raise HTTPError(400, f"unknown client or redirect_uri {redirect_uri!r}")

    def check_sign_in_code(self, offered: str) -> bool:
        """Whether the code is right; after ten wrong ones in a minute, whoever sent them, none is looked at."""
        now = time.monotonic()
        while self.failures and now - self.failures[0] > 60:
            self.failures.popleft()
        if len(self.failures) >= FAILURES_PER_MINUTE:
            raise HTTPError(429, "too many wrong codes; wait a minute")
        is_right = hmac.compare_digest(_plain(offered).encode(), _plain(self.sign_in_code).encode())
        if not is_right:
            self.failures.append(now)
        return is_right

    def issue_code(self, person: Person, challenge: str, redirect_uri: str) -> str:
        """A code that is good once, for a minute."""
        code = secrets.token_urlsafe(32)
        self.codes[code] = Grant(person, time.monotonic() + CODE_SECONDS, challenge, redirect_uri)
        return code

    def redeem(self, code: str, verifier: str, redirect_uri: str) -> str:
        """Exchange a code for an access token; the code is gone, whether or not it was right."""
        grant = self.codes.pop(code, None)
        if grant is None or grant.expires < time.monotonic() or grant.redirect_uri != redirect_uri:
            raise HTTPError(400, "invalid_grant")
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        if not hmac.compare_digest(digest, grant.challenge):
            raise HTTPError(400, "invalid_grant")
        token = secrets.token_urlsafe(32)
        self.tokens[token] = Grant(grant.person, time.monotonic() + TOKEN_SECONDS)
        return token

    def person_of(self, authorization: str) -> Person:
        """The person of an Authorization header (`Bearer` or GitHub's `token`)."""
        grant = self.tokens.get(authorization.partition(" ")[2])
        if grant is None or grant.expires < time.monotonic():
            raise HTTPError(401, "Bad credentials")
        return grant.person


class _Handler(RequestHandler):
    def initialize(self, issuer: Issuer) -> None:
        self.issuer = issuer

    def set_default_headers(self) -> None:
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
        )
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.clear_header("Server")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what was wrong, in one line of text."""
        error = kwargs.get("exc_info", (None, None))[1]
        reason = error.log_message if isinstance(error, HTTPError) else ""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code}: {reason or self._reason}\n")

    @property
    def person(self) -> Person:
        """Whoever the request's token belongs to; answers 401 when it belongs to nobody."""
        return self.issuer.person_of(self.request.headers.get("Authorization", ""))


class Authorize(_Handler):
    """The consent page, and what its button sends."""

    def initialize(self, issuer: Issuer, provider: str) -> None:  # type: ignore[override]
        """Called by tornado with what the routing table says."""
        super().initialize(issuer)
        self.provider = provider

    def get(self) -> None:
        """Show who can sign in."""
        self._check_request()
        self._show()

    def post(self) -> None:
        """Redirect back to the hub with a code, or with access_denied."""
        self._check_request()
        redirect_uri, state = self.get_query_argument("redirect_uri"), self.get_query_argument("state")
        if self.get_body_argument("cancel", ""):
            self.redirect(f"{redirect_uri}?{urlencode({'error': 'access_denied', 'state': state})}")
            return
        person = next((each for each in PEOPLE if each.login == self.get_body_argument("login", "")), None)
        if person is None or not self.issuer.check_sign_in_code(self.get_body_argument("sign_in_code", "")):
            self.set_status(403)
            self._show("This is not the sign-in code. `workbench code` prints it.")
            return
        code = self.issuer.issue_code(person, self.get_query_argument("code_challenge"), redirect_uri)
        self.redirect(f"{redirect_uri}?{urlencode({'code': code, 'state': state})}")

    def _check_request(self) -> None:
        self.issuer.check_client(self.get_query_argument("client_id"), self.get_query_argument("redirect_uri"))
        if self.get_query_argument("code_challenge_method", "") != "S256":
            raise HTTPError(400, "PKCE with S256 is required")

    def _show(self, problem: str = "") -> None:
        self.render("demo_consent.html", provider=self.provider, people=PEOPLE, problem=problem)


class Token(_Handler):
    """The token endpoint of both protocols."""

    def post(self) -> None:
        """Exchange a code for a token."""
        if not hmac.compare_digest(self.get_argument("client_secret", "").encode(), self.issuer.client_secret.encode()):
            raise HTTPError(401, "invalid_client")
        token = self.issuer.redeem(
            self.get_argument("code"), self.get_argument("code_verifier", ""), self.get_argument("redirect_uri", "")
        )
        self.write({"access_token": token, "token_type": "Bearer", "scope": "", "expires_in": int(TOKEN_SECONDS)})


class GitHubUser(_Handler):
    """GET /user of GitHub's REST API."""

    def get(self) -> None:
        """The authenticated user."""
        person = self.person
        self.write(
            {"login": person.login, "id": person.number, "name": person.name, "email": person.mail, "avatar_url": None}
        )


class GoogleUserInfo(_Handler):
    """Google's userinfo, v1."""

    def get(self) -> None:
        """The authenticated user; `hd` is there for Workspace accounts only."""
        person = self.person
        account = {"id": str(person.number), "name": person.name, "email": person.mail, "verified_email": True}
        self.write({**account, "hd": "example.com"} if person.belongs else account)


class Health(_Handler):
    """Answers the supervisor."""

    def get(self) -> None:
        """An empty object."""
        self.write({})


def make_application(issuer: Issuer) -> Application:
    """The two protocols on one port; their paths do not meet."""
    shared = {"issuer": issuer}
    return Application(
        [
            (r"/login/oauth/authorize", Authorize, {**shared, "provider": "GitHub"}),
            (r"/o/oauth2/v2/auth", Authorize, {**shared, "provider": "Google"}),
            (r"/login/oauth/access_token", Token, shared),
            (r"/oauth2/v4/token", Token, shared),
            (r"/api/v3/user", GitHubUser, shared),
            (r"/oauth2/v1/userinfo", GoogleUserInfo, shared),
            (r"/health", Health, shared),
        ],
        template_path=str(Path(__file__).parent / "templates"),
    )


def check_allowed_to_run(settings: Settings) -> None:
    """Refuse to stand in for real providers.

    Raises:
        SettingsError: when the hub can be reached from elsewhere, or a real client is configured.
    """
    problems = []
    if not is_loopback(settings.hub.host):
        problems.append(
            f"WORKBENCH_HUB_HOST is {settings.hub.host}: the demo identity provider runs on loopback only. Set it to 127.0.0.1."
        )
    if not settings.login.is_demo:
        problems.append("A real OAuth client is configured: the demo identity provider does not run beside it.")
    if problems:
        raise SettingsError(problems)


async def serve(settings: Settings) -> None:
    """Listen on the loopback port that `workbench up` chose, until killed."""
    check_allowed_to_run(settings)
    ports, keys = HubPorts.read(settings.home), settings.home / "keys"
    url = public_url(settings, ports)
    issuer = Issuer(
        sign_in_code=ensure_code(keys / "sign-in-code"),
        client_secret=ensure_token(keys / "demo-identity-client"),
        callbacks=frozenset(f"{url}/hub/{name}/callback" for name in settings.login.providers),
    )
    make_application(issuer).listen(ports.identity, address="127.0.0.1")
    await asyncio.Event().wait()


def _plain(code: str) -> str:
    return code.strip().replace("-", "").replace(" ", "").upper()


if __name__ == "__main__":
    try:
        asyncio.run(serve(Settings.load()))
    except WorkbenchError as error:
        sys.exit(str(error))
