"""What a login remembers between the button and the provider's answer: in the browser, sealed.

The cookie of a flow is encrypted and signed with a key of OAUTH2_STATE_SECRET (Fernet), is good
for ten minutes and for one provider; its name holds the flow's id, so that two tabs keep apart.
The provider sees only the id, as `state` (RFC 6749 §10.12, RFC 9700 §4.7).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from dataclasses import asdict, dataclass, field

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FLOW_SECONDS = 600
STATE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One attempt to log in, or to link an account."""

    provider: str
    next_url: str = ""
    link: str = ""  #: the hub name that the account shall be linked to; empty is a login
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)  #: of PKCE (RFC 7636)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32))  #: comes back in the ID token
    expires_at: float = field(default_factory=lambda: time.time() + FLOW_SECONDS)

    @property
    def challenge(self) -> str:
        """What the provider compares with the verifier later (RFC 7636 §4.2, S256)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    @property
    def cookie(self) -> str:
        """The name of its cookie."""
        return cookie_name(self.provider, self.state)


def cookie_name(provider: str, state: str) -> str:
    """The name of the cookie of one flow."""
    return f"login-{provider}-{state}"


def seal(flow: Flow, secret: bytes) -> str:
    """The flow as its cookie holds it: nobody without the secret reads or makes one."""
    return _fernet(secret).encrypt(json.dumps(asdict(flow)).encode()).decode()


def unseal(sealed: str, secret: bytes, *, provider: str, state: str) -> Flow | None:
    """The flow in a cookie; None when it is not ours, too old, another provider's, or another flow's."""
    try:
        flow = Flow(**json.loads(_fernet(secret).decrypt(sealed.encode(), ttl=FLOW_SECONDS)))
    except (InvalidToken, TypeError):  # TypeError: of another version of the workbench
        return None
    is_meant = flow.provider == provider and secrets.compare_digest(flow.state, state)
    return flow if is_meant and flow.expires_at > time.time() else None


def _fernet(secret: bytes) -> Fernet:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"workbench login flow").derive(secret)
    return Fernet(base64.urlsafe_b64encode(key))
