"""What both protocols answer alike: headers, errors, the consent page."""

from __future__ import annotations

import base64
import binascii
import logging
from typing import Any
from urllib.parse import urlencode

from tornado.web import HTTPError, RequestHandler

from hub.auditing import AuditTrail
from hub.demo_identity.issuer import Grant, Issuer
from hub.demo_identity.people import PEOPLE, Person, find_person
from workbench.errors import AuditError
from workbench.security.audit import Action

TITLES = {"github": "GitHub", "google": "Google"}

logger = logging.getLogger(__name__)


class Handler(RequestHandler):
    """Headers and errors of every answer."""

    def initialize(self, issuer: Issuer, audit: AuditTrail, protocol: str = "") -> None:
        """Called by tornado with what the routing table says."""
        self.issuer = issuer
        self.audit = audit
        self.protocol = protocol

    def set_default_headers(self) -> None:
        """No answer is kept, framed or sniffed."""
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
        )
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.clear_header("Server")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what was wrong, in one line of text."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code}: {self.reason_of(kwargs)}\n")

    def reason_of(self, kwargs: dict[str, Any]) -> str:
        """What the raised error says, else what HTTP calls it."""
        error = kwargs.get("exc_info", (None, None))[1]
        return (isinstance(error, HTTPError) and error.log_message) or self._reason


class Endpoint(Handler):
    """Answers programs, in JSON."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """The error as RFC 6749 and GitHub's API write it."""
        reason = self.reason_of(kwargs)
        self.finish({"error": reason, "message": reason})

    @property
    def grant(self) -> Grant:
        """What the request's token stands for; answers 401 when it stands for nothing."""
        return self.issuer.grant_of(self.request.headers.get("Authorization", ""), self.protocol)

    def check_client(self) -> None:
        """Answer 401 unless it is the hub, by header or by form (RFC 6749 §2.3.1)."""
        kind, _, encoded = self.request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic":
            self.issuer.check_client(self.get_argument("client_id", ""), self.get_argument("client_secret", ""))
            return
        try:
            client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise HTTPError(401, "invalid_client") from None
        self.issuer.check_client(client_id, secret)


class Authorize(Handler):
    """The consent page, and what its button sends."""

    def get(self) -> None:
        """Show who can sign in."""
        self._check_request()
        self._show()

    async def post(self) -> None:
        """Redirect back to the hub with a code, or with access_denied; who is refused is in the audit log first."""
        self._check_request()
        if self.get_body_argument("cancel", ""):
            self._send_back(error="access_denied")
            return
        person = find_person(self.get_body_argument("login", ""))
        if person is None or not await self._is_right_code(person):
            await self._failed(person, "wrong sign-in code" if person else "no such login")
            self.set_status(403)
            self._show("This is not the sign-in code. `workbench code` prints it.")
            return
        grant = Grant(
            person=person,
            protocol=self.protocol,
            scopes=tuple(self.get_query_argument("scope", "").split()),
            nonce=self.get_query_argument("nonce", ""),
            challenge=self.get_query_argument("code_challenge"),
            redirect_uri=self.get_query_argument("redirect_uri"),
            is_offline=self.get_query_argument("access_type", "") == "offline",
        )
        self._send_back(code=self.issuer.issue_code(grant))

    async def _is_right_code(self, person: Person) -> bool:
        try:
            return self.issuer.check_sign_in_code(self.get_body_argument("sign_in_code", ""))
        except HTTPError:
            await self._failed(person, "too many wrong sign-in codes")
            raise

    async def _failed(self, person: Person | None, reason: str) -> None:
        """Note that a login proved nothing. Anybody on this machine can send such a request, so not every one gets a line."""
        if (left_out := self.issuer.recorded.admit()) is None:
            return
        # Of other logins than these anything may have been sent, such as a password.
        details = {"login": person.login} if person else {}
        details |= {"provider": self.protocol, "address": str(self.request.remote_ip), "reason": reason}
        try:
            await self.audit.record(Action.LOGIN_FAILED, actor="", resource="hub", left_out=str(left_out), **details)
        except AuditError as error:
            logger.error("%s", error)  # noqa: TRY400 - it says all
            raise HTTPError(503, "The audit log cannot be written, and this login is refused.") from error

    def _check_request(self) -> None:
        self.issuer.check_callback(self.get_query_argument("client_id"), self.get_query_argument("redirect_uri"))
        if self.get_query_argument("code_challenge_method", "") != "S256":
            raise HTTPError(400, "PKCE with S256 is required")

    def _send_back(self, **query: str) -> None:
        sender = {"iss": self.issuer.url} if self.protocol == "google" else {}
        told = {**query, "state": self.get_query_argument("state"), **sender}
        self.redirect(f"{self.get_query_argument('redirect_uri')}?{urlencode(told)}")

    def _show(self, problem: str = "") -> None:
        self.render("demo_consent.html", provider=TITLES[self.protocol], people=PEOPLE, problem=problem)


class Health(Endpoint):
    """Answers the supervisor."""

    def get(self) -> None:
        """An empty object."""
        self.write({})
