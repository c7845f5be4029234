"""The provider's memory: the codes and tokens that it gave out, and wrong sign-in codes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections import deque
from dataclasses import dataclass, field, replace

from tornado.web import HTTPError

from hub.demo_identity.id_tokens import SigningKey
from hub.demo_identity.people import Person
from workbench.security.throttle import Throttle

CODE_SECONDS = 60.0
TOKEN_SECONDS = {
    "github": 7 * 86400.0,  # GitHub's do not expire; nobody is asked for the code every hour
    "google": 3600.0,
}
REFRESH_SECONDS = 7 * 86400.0
FAILURES_PER_MINUTE = 10
SIGN_IN_FAILURE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a code or a token stands for."""

    person: Person
    protocol: str  #: `github` or `google`
    scopes: tuple[str, ...] = ()
    nonce: str = ""
    challenge: str = ""
    redirect_uri: str = ""
    is_offline: bool = False  #: a refresh token was asked for
    login_id: str = field(default_factory=lambda: secrets.token_hex(8))  #: its tokens are revoked together
    expires: float = 0.0  #: time.monotonic()


@dataclass
class Issuer:
    """What one process of the provider knows; nothing of it outlives the process."""

    url: str
    sign_in_code: str = field(repr=False)
    client_secret: str = field(repr=False)
    callbacks: frozenset[str]
    client_id: str = "workbench-demo"
    key: SigningKey = field(default_factory=SigningKey, repr=False)
    codes: dict[str, Grant] = field(default_factory=dict, repr=False)
    tokens: dict[str, Grant] = field(default_factory=dict, repr=False)
    refresh_tokens: dict[str, Grant] = field(default_factory=dict, repr=False)
    failures: deque[float] = field(default_factory=deque, repr=False)
    recorded: Throttle = field(default_factory=Throttle, repr=False)  #: of failures in the audit log

    def check_callback(self, client_id: str, redirect_uri: str) -> None:
        """Refuse clients and callbacks that are not the hub's, before anything is shown (RFC 6749 §4.1.2.1)."""
        if client_id != self.client_id or redirect_uri not in self.callbacks:
            raise HTTPError(400, f"unknown client or redirect_uri {redirect_uri!r}")

    def check_client(self, client_id: str, secret: str) -> None:
        """Refuse programs that are not the hub."""
        if client_id != self.client_id or not hmac.compare_digest(secret.encode(), self.client_secret.encode()):
            raise HTTPError(401, "invalid_client")

    def check_sign_in_code(self, offered: str) -> bool:
        """Whether the code is right; after ten wrong ones in a minute, whoever sent them, none is looked at."""
        now = time.monotonic()
        while self.failures and now - self.failures[0] > SIGN_IN_FAILURE_SECONDS:
            self.failures.popleft()
        if len(self.failures) >= FAILURES_PER_MINUTE:
            raise HTTPError(429, "too many wrong codes; wait a minute")
        is_right = hmac.compare_digest(_plain(offered).encode(), _plain(self.sign_in_code).encode())
        if not is_right:
            self.failures.append(now)
        return is_right

    def issue_code(self, grant: Grant) -> str:
        """A code that is good once, for a minute."""
        return _give(self.codes, grant, CODE_SECONDS)

    def redeem(self, code: str, verifier: str, redirect_uri: str, protocol: str) -> Grant:
        """What a code stands for; the code is gone, whether or not the rest was right."""
        grant = _held(self.codes, code)
        self.codes.pop(code, None)
        if grant is None or (grant.redirect_uri, grant.protocol) != (redirect_uri, protocol):
            raise HTTPError(400, "invalid_grant")
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        if not hmac.compare_digest(digest, grant.challenge):
            raise HTTPError(400, "invalid_grant")
        return grant

    def issue_token(self, grant: Grant) -> str:
        """An access token."""
        return _give(self.tokens, grant, TOKEN_SECONDS[grant.protocol])

    def issue_refresh_token(self, grant: Grant) -> str:
        """A refresh token; as Google's, it stays the same when it is used."""
        return _give(self.refresh_tokens, grant, REFRESH_SECONDS)

    def use_refresh_token(self, token: str) -> Grant:
        """What a refresh token stands for."""
        grant = _held(self.refresh_tokens, token)
        if grant is None:
            raise HTTPError(400, "invalid_grant")
        return grant

    def grant_of(self, authorization: str, protocol: str) -> Grant:
        """What the token of an Authorization header (`Bearer` or GitHub's `token`) stands for."""
        grant = _held(self.tokens, authorization.partition(" ")[2])
        if grant is None or grant.protocol != protocol:
            raise HTTPError(401, "Bad credentials")
        return grant

    def find(self, token: str) -> Grant | None:
        """What an access or a refresh token stands for."""
        return _held(self.tokens, token) or _held(self.refresh_tokens, token)

    def revoke(self, grant: Grant) -> None:
        """End all tokens of one login."""
        for held in (self.tokens, self.refresh_tokens):
            for token in [token for token, each in held.items() if each.login_id == grant.login_id]:
                del held[token]

    def revoke_all(self, grant: Grant) -> None:
        """End all tokens of a person with that protocol."""
        for each in [*self.tokens.values(), *self.refresh_tokens.values()]:
            if (each.person, each.protocol) == (grant.person, grant.protocol):
                self.revoke(each)


def _give(held: dict[str, Grant], grant: Grant, seconds: float) -> str:
    now = time.monotonic()
    for token in [token for token, each in held.items() if each.expires < now]:
        del held[token]
    token = secrets.token_urlsafe(32)
    held[token] = replace(grant, expires=now + seconds)
    return token


def _held(held: dict[str, Grant], token: str) -> Grant | None:
    grant = held.get(token)
    return grant if grant is not None and grant.expires >= time.monotonic() else None


def _plain(code: str) -> str:
    return code.strip().replace("-", "").replace(" ", "").upper()
