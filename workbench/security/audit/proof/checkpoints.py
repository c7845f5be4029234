r"""Signed checkpoints: what the log was at an instant.

A checkpoint is one line, `{"hash":"…","key":"…","number":17,"origin":"workbench-audit/1","previous":"…",
"sequence":1234,"time":1767604364218} SIGNATURE`. `hash` and `sequence` are those of the log's last
line, `number` counts from 1, `previous` is the SHA-256 of the checkpoint before, signature and line
feed included, `key` the public key. The signature is Ed25519 over the bytes before the blank, in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from workbench.security.audit.lines import canonical
from workbench.security.audit.proof.signing import SigningKey, is_signed

ORIGIN = "workbench-audit/1"
CHECKPOINT = re.compile(rb'(\{"hash":"[^ ]{1,600}\}) ([A-Za-z0-9+/]{86}==)')


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What the log was; fields in the order in which they are written."""

    hash: str
    key: str
    number: int
    origin: str
    previous: str
    sequence: int
    time: int

    def signed(self, key: SigningKey) -> bytes:
        """The line, line feed included."""
        content = canonical(asdict(self))
        return content + b" " + base64.b64encode(key.sign(content)) + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Self | None:
        """The checkpoint within a line of anything, such as of syslog; None when its key has signed none."""
        found = CHECKPOINT.search(line)
        if found is None:
            return None
        try:
            values = json.loads(found[1])
            signature = base64.b64decode(found[2], validate=True)
            if base64.b64encode(signature) != found[2]:  # bits that mean nothing
                return None
            if set(values) != {each.name for each in fields(cls)} or values["origin"] != ORIGIN:
                return None
            if not all(_is_right(each.type, values[each.name]) for each in fields(cls)):
                return None
            made = cls(**values)
            return made if is_signed(made.key, signature, found[1]) else None
        except (ValueError, TypeError, AttributeError, binascii.Error):
            return None


def _is_right(kind: object, value: object) -> bool:
    return isinstance(value, str) if kind == "str" else isinstance(value, int) and 0 <= value < 1 << 53


def checkpoint_bytes(line: bytes) -> bytes:
    """The checkpoint's own bytes within a line that `Checkpoint.of_line` has read, and a line feed."""
    found = CHECKPOINT.search(line)
    assert found is not None, "of_line has found one"
    return found[0] + b"\n"


def read_checkpoints(path: Path) -> list[bytes]:
    """The lines of the file of checkpoints, with what is none."""
    try:
        return path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
