"""ID tokens as Google signs them (OpenID Connect Core 1.0 §2)."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from hub.demo_identity.people import DOMAIN, Person

ID_TOKEN_SECONDS = 3600


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class SigningKey:
    """An RSA key that lives as long as the process, with the id under which its public half is published."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    private: rsa.RSAPrivateKey = field(default_factory=_new_key, repr=False)

    def key_set(self) -> dict[str, Any]:
        """The public half as a JSON Web Key Set."""
        public = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self.id, "use": "sig", "alg": "RS256"}]}

    def sign(self, claims: dict[str, Any]) -> str:
        """A token with these claims, good for an hour from now."""
        now = int(time.time())
        times = {"iat": now, "exp": now + ID_TOKEN_SECONDS}
        return jwt.encode({**claims, **times}, self.private, algorithm="RS256", headers={"kid": self.id})


def profile(person: Person) -> dict[str, Any]:
    """The claims about a person; `hd` is there for Workspace accounts only."""
    claims = {"email": person.mail, "email_verified": True, "name": person.name, "picture": person.picture}
    return {**claims, "hd": DOMAIN} if person.belongs else claims
