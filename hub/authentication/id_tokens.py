"""ID tokens of OpenID Connect: whether one is the issuer's, for us, for this login, and still good.

Core 1.0 §3.1.3.7 lets a client skip the signature of a token that came straight from the token
endpoint over TLS. It is checked anyway: a proxy that ends TLS, or an issuer whose token endpoint
serves several clients, is then no way in.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from workbench.errors import ProviderRefused, ProviderUnavailable

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")  # no none, no secrets
LEEWAY_SECONDS = 60
KEYS_SECONDS = 3600.0
NEW_KEYS_SECONDS = 30.0  # an unknown key id lets the keys be fetched again, but no oftener than this
REQUIRED = ["iss", "sub", "aud", "exp", "iat"]

Fetch = Callable[[str], Awaitable[Any]]


@dataclass
class Issuer:
    """An issuer's metadata and keys, fetched when they are needed (OpenID Connect Discovery 1.0)."""

    address: str
    fetch: Fetch = field(repr=False)  #: a JSON document; raises ProviderUnavailable
    _metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _keys: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _fetched_at: float = -KEYS_SECONDS
    _read_at: float = 0.0

    async def metadata(self) -> Mapping[str, Any]:
        """The discovery document.

        Raises:
            ProviderUnavailable: when it cannot be had.
            ProviderRefused: when it is another issuer's (§4.3).
        """
        if not self._metadata or time.monotonic() - self._read_at > KEYS_SECONDS:
            found = await self.fetch(f"{self.address.rstrip('/')}/.well-known/openid-configuration")
            if not isinstance(found, dict) or "jwks_uri" not in found:
                raise ProviderUnavailable(f"{self.address} sent no OpenID Connect metadata")
            if found.get("issuer") != self.address:
                raise ProviderRefused(
                    f"the metadata of {self.address} is that of {found.get('issuer')!r}",
                    remedy="Write the issuer as its own metadata does, to the last slash.",
                )
            self._metadata, self._read_at = found, time.monotonic()
        return self._metadata

    async def key(self, key_id: str | None) -> Any:
        """The public key with that id; the only one when the token names none.

        Raises:
            ProviderUnavailable: when the keys cannot be had.
            ProviderRefused: when there is no such key.
        """
        age = time.monotonic() - self._fetched_at
        if age > KEYS_SECONDS or (key_id not in self._keys and age > NEW_KEYS_SECONDS):
            found = await self.fetch((await self.metadata())["jwks_uri"])
            self._keys, self._fetched_at = _signing_keys(found), time.monotonic()
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if key_id is None or key_id not in self._keys:
            raise ProviderRefused(f"the ID token is signed with a key that {self.address} does not have")
        return self._keys[key_id]


async def verify(token: str, issuer: Issuer, *, client_id: str, nonce: str = "") -> dict[str, Any]:
    """The claims of an ID token.

    Args:
        token: as it came.
        issuer: who has to have signed it.
        client_id: whom it has to be for.
        nonce: of the login; empty at a refresh, where none comes back (Core 1.0 §12.2).

    Raises:
        ProviderRefused: when anything about it is wrong; the message says what, never the token.
        ProviderUnavailable: when the issuer's keys cannot be had.
    """
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ALGORITHMS:
            raise ProviderRefused(f"the ID token is signed with {header.get('alg')!r}, which proves nothing")
        key = await issuer.key(header.get("kid"))
        claims: dict[str, Any] = jwt.decode(
            token, key.key, algorithms=ALGORITHMS, issuer=issuer.address, audience=client_id, leeway=LEEWAY_SECONDS,
            options={"require": REQUIRED},
        )  # fmt: skip
    except (jwt.PyJWTError, TypeError) as error:  # TypeError: a key of another kind than the algorithm's
        raise ProviderRefused(f"the ID token is not good: {error}") from None
    is_shared = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", client_id) != client_id or (is_shared and "azp" not in claims):
        raise ProviderRefused(f"the ID token was issued to {claims.get('azp')!r}, not to {client_id!r}")
    if nonce and claims.get("nonce") != nonce:
        raise ProviderRefused("the ID token belongs to another login: its nonce differs")
    return claims


def _signing_keys(found: Any) -> dict[str, Any]:
    try:
        keys = jwt.PyJWKSet.from_dict(found).keys
    except (jwt.PyJWTError, AttributeError, TypeError) as error:
        raise ProviderUnavailable(f"the issuer's keys cannot be read: {error}") from None
    return {key.key_id or "": key for key in keys if key.public_key_use in {None, "sig"}}
