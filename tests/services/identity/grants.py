"""Codes and tokens: who holds what, how long, and what becomes of a refresh token that is used twice."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tests.services.identity.wire import Refused

CODE_SECONDS = 60.0


@dataclass(eq=False)
class Person:
    """An account. Tests change it while it is logged in; `number` is GitHub's id and, as text, the subject."""

    login: str
    number: int
    name: str = ""
    mail: str = ""
    mail_verified: bool = True
    is_mail_public: bool = True  #: GitHub shows it in /user, else in /user/emails alone
    hd: str = ""
    organizations: set[str] = field(default_factory=set)
    teams: set[str] = field(default_factory=set)  #: `org:team`
    groups: set[str] = field(default_factory=set)
    picture: str = ""

    @property
    def sub(self) -> str:
        return str(self.number)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a code or a token stands for."""

    person: Person
    protocol: str
    client_id: str
    scopes: tuple[str, ...]
    nonce: str = ""
    challenge: str = ""
    redirect_uri: str = ""
    is_offline: bool = False
    family: str = field(default_factory=lambda: secrets.token_hex(8))  #: of one login: ends as one
    expires: float = float("inf")  #: time.monotonic()


@dataclass
class Grants:
    """Everything that was given out and still counts."""

    codes: dict[str, Grant] = field(default_factory=dict)
    access: dict[str, Grant] = field(default_factory=dict)
    refresh: dict[str, Grant] = field(default_factory=dict)
    used_refresh: dict[str, Grant] = field(default_factory=dict)

    def give_code(self, grant: Grant) -> str:
        code = secrets.token_urlsafe(24)
        self.codes[code] = replace(grant, expires=time.monotonic() + CODE_SECONDS)
        return code

    def redeem(self, form: Mapping[str, str], protocol: str, client_id: str) -> Grant:
        """The grant of a code, which is gone, whether or not the rest was right.

        Raises:
            Refused: when the code, its client, its callback or its verifier is another.
        """
        grant = self.codes.pop(form.get("code", ""), None)
        if grant is None or grant.expires < time.monotonic():
            raise Refused(400, _invalid("the code is unknown, used or too old"))
        if (grant.protocol, grant.client_id) != (protocol, client_id):
            raise Refused(400, _invalid("the code is another client's"))
        if grant.redirect_uri != form.get("redirect_uri"):
            raise Refused(400, _invalid("redirect_uri is another one"))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != grant.challenge:
            raise Refused(400, _invalid("code_verifier does not fit"))
        return grant

    def give_access(self, grant: Grant, seconds: float) -> str:
        token = f"at-{secrets.token_urlsafe(24)}"
        self.access[token] = replace(grant, expires=time.monotonic() + seconds)
        return token

    def give_refresh(self, grant: Grant) -> str:
        token = f"rt-{secrets.token_urlsafe(24)}"
        self.refresh[token] = replace(grant, expires=float("inf"))
        return token

    def use_refresh(self, token: str, client_id: str, *, rotates: bool, detects_reuse: bool) -> Grant:
        """The grant of a refresh token; one that was rotated away ends its whole family.

        Raises:
            Refused: when it is unknown, revoked, another client's or used already.
        """
        if detects_reuse and (stolen := self.used_refresh.get(token)):
            self.end_family(stolen.family)
        grant = self.refresh.get(token)
        if grant is None or grant.client_id != client_id:
            raise Refused(400, _invalid("the refresh token is unknown, revoked or used"))
        if rotates:
            self.used_refresh[token] = self.refresh.pop(token)
        return grant

    def find(self, token: str) -> Grant | None:
        """The grant of an access or refresh token that still counts."""
        grant = self.access.get(token) or self.refresh.get(token)
        return grant if grant and grant.expires >= time.monotonic() else None

    def revoke(self, token: str) -> bool:
        """End one access token, or with a refresh token all of its login; whether there was one."""
        if grant := self.refresh.get(token):
            self.end_family(grant.family)
            return True
        return self.access.pop(token, None) is not None

    def end_family(self, family: str) -> None:
        """End all tokens of one login."""
        self._drop(lambda grant: grant.family == family)

    def end_person(self, person: Person) -> None:
        """End all codes and tokens of a person."""
        self._drop(lambda grant: grant.person is person)

    def end_protocol(self, person: Person, protocol: str) -> None:
        """End what a person gave to one of the clients."""
        self._drop(lambda grant: grant.person is person and grant.protocol == protocol)

    def expire_access(self) -> None:
        """Make all access tokens too old; refresh tokens stay."""
        self.access = {token: replace(grant, expires=0.0) for token, grant in self.access.items()}

    def _drop(self, is_ended: Callable[[Grant], bool]) -> None:
        for held in (self.codes, self.access, self.refresh):
            for token in [token for token, grant in held.items() if is_ended(grant)]:
                del held[token]


def _invalid(why: str) -> dict[str, str]:
    return {"error": "invalid_grant", "error_description": why}
