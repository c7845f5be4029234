"""ID tokens as an issuer signs them, and as an attacker would."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

Claims = dict[str, Any]


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class SigningKey:
    """An RSA key with the id under which its public half is published."""

    id: str = field(default_factory=lambda: uuid4().hex[:12])
    private: rsa.RSAPrivateKey = field(default_factory=_new_key, repr=False)

    def sign(self, claims: Claims, *, kid: str = "") -> str:
        return jwt.encode(claims, self.private, algorithm="RS256", headers={"kid": kid or self.id})

    def published(self) -> dict[str, Any]:
        """The public half as a JWK."""
        made = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**made, "kid": self.id, "use": "sig", "alg": "RS256"}

    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def _signed_with(**changes: Any) -> Callable[[SigningKey, Claims], str]:
    """Changed claims, well signed; None removes one, a number of `exp` and `iat` is added to it."""

    def tamper(key: SigningKey, claims: Claims) -> str:
        changed = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        for name in ("exp", "iat"):
            if changes.get(name) is not None:
                changed[name] = claims[name] + changes[name]
        return key.sign(changed)

    return tamper


def _unsigned(key: SigningKey, claims: Claims) -> str:
    return jwt.encode(claims, None, algorithm="none", headers={"kid": key.id})


def _signed_with_public_key(key: SigningKey, claims: Claims) -> str:
    # PyJWT refuses to take a public key for a shared secret: that is the attack.
    header = {"alg": "HS256", "typ": "JWT", "kid": key.id}
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims))
    signature = hmac.new(key.public_pem(), text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def _with_changed_payload(key: SigningKey, claims: Claims) -> str:
    header, _, signature = key.sign(claims).split(".")
    payload = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "1"}).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}.{signature}"


TAMPERINGS: dict[str, Callable[[SigningKey, Claims], str]] = {
    "other_audience": _signed_with(aud="another-client", azp="another-client"),
    "two_audiences_of_another": lambda key, claims: key.sign(
        {**claims, "aud": [claims["aud"], "another-client"], "azp": "another-client"}
    ),
    "other_issuer": _signed_with(iss="https://evil.example"),
    "expired": _signed_with(exp=-7200, iat=-7200),
    "no_expiry": _signed_with(exp=None),
    "issued_in_the_future": _signed_with(iat=7200, exp=7200),
    "no_nonce": _signed_with(nonce=None),
    "wrong_nonce": _signed_with(nonce="stolen"),
    "wrong_sub": _signed_with(sub="1"),
    "no_sub": _signed_with(sub=None),
    "algorithm_none": _unsigned,
    "signed_with_public_key": _signed_with_public_key,
    "changed_payload": _with_changed_payload,
    "unknown_key": lambda _, claims: SigningKey().sign(claims),
    "foreign_key": lambda key, claims: SigningKey().sign(claims, kid=key.id),
    "garbage": lambda *_: "not.a.token",
    "missing": lambda *_: "",
}  #: an ID token that has to be refused, by name; `wrong_sub` disagrees with userinfo
