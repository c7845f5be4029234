"""Signatures of Standard Webhooks 1.0.0: HMAC-SHA256 of `id.timestamp.body`, in headers beside it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from workbench.errors import WorkbenchError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"  #: headers
TOLERANCE_SECONDS = 300  #: between the clocks of sender and receiver, either way
LARGEST_BYTES = 65_536  #: of a body
LEAST_BYTES = 24  #: of a secret
PREFIX, VERSION = "whsec_", "v1"
# Printable ASCII without the full stop, which would let one message be read as another.
IDS = re.compile(r"[!-\-/-~]{1,256}")
TIMES = re.compile(r"[1-9][0-9]{0,11}")
MOST_SIGNATURE = 4096  # characters of the header: senders that change their secret send two


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A request as it came; whether its signature is right is what `is_signed` says."""

    id: str  #: the same each time that the sender tries
    timestamp: int  #: seconds since 1970, of this try
    body: bytes = field(repr=False)
    signatures: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, headers: Mapping[str, str], body: bytes) -> Signed | None:
        """What the headers say; None when one is missing or malformed."""
        name, moment, signature = (headers.get(each, "") for each in (ID, TIMESTAMP, SIGNATURE))
        if not IDS.fullmatch(name) or not TIMES.fullmatch(moment) or len(signature) > MOST_SIGNATURE:
            return None
        versions = [each.partition(",") for each in signature.split(" ")]
        found = tuple(_decoded(value) for version, _, value in versions if version == VERSION)
        return cls(id=name, timestamp=int(moment), body=body, signatures=found)

    def is_signed(self, key: bytes) -> bool:
        """Whether one of the signatures was made with *key*; takes as long whichever it is."""
        expected = self._digest(key)
        # A list: all of them are compared.
        return any([hmac.compare_digest(expected, each) for each in self.signatures])  # noqa: C419

    def is_fresh(self, now: float) -> bool:
        """Whether it was sent about now, in seconds since 1970."""
        return abs(now - self.timestamp) <= TOLERANCE_SECONDS

    def headers(self, key: bytes) -> dict[str, str]:
        """What the sender sends with the body."""
        signature = base64.b64encode(self._digest(key)).decode()
        return {ID: self.id, TIMESTAMP: str(self.timestamp), SIGNATURE: f"{VERSION},{signature}"}

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(key, b"%s.%d." % (self.id.encode(), self.timestamp) + self.body, hashlib.sha256)


def key_of(secret: SecretStr) -> bytes:
    """The key: what follows `whsec_` in base64, or the bytes of any other text.

    Raises:
        WorkbenchError: when it is no base64, or shorter than 24 bytes.
    """
    text = secret.get_secret_value()
    key = _decoded(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else text.encode()
    if len(key) < LEAST_BYTES:
        raise WorkbenchError(
            f"the secret of a webhook has fewer than {LEAST_BYTES} bytes, or is no base64 behind {PREFIX}",
            remedy="Make one: echo whsec_$(head -c 32 /dev/urandom | base64)",
        )
    return key


def _decoded(text: str) -> bytes:
    """Of base64; nothing when it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
