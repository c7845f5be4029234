r"""The header of what is encrypted, as bytes. Fixed lengths, big-endian.

    prefix, 56 bytes, never changed          b"\x97AWB" | format 1 | suite 1 | kind | 0 | keyset id (16) | SHA-256 of the context (32)
    slot, 108 bytes, twice (of a value or key once) key version (4) | the key of this object, wrapped: a message of `security.messages`

A value has the message itself in place of its one slot's key. Of a file's or log's two slots one is
empty, zeros, except in the midst of a rewrap: it fills the empty one, and empties the other only
when that is on the disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from workbench.errors import OtherContext, Truncated, UnsupportedFormat, WrongKey
from workbench.security.keyset.versions import ID_BYTES
from workbench.security.messages import KEY_BYTES, RESTORE, message_bytes

MAGIC = b"\x97AWB"
FORMAT = 1
SUITE = 1  # Cobblestone-256
HASH_BYTES = 32
VERSION_BYTES = 4
PREFIX_BYTES = len(MAGIC) + 4 + ID_BYTES + HASH_BYTES
SLOT_BYTES = VERSION_BYTES + message_bytes(KEY_BYTES)
SLOTS = 2
HEADER_BYTES = PREFIX_BYTES + SLOTS * SLOT_BYTES  #: of a file and of a log
EMPTY = bytes(SLOT_BYTES)


class Kind(IntEnum):
    """What follows the prefix."""

    VALUE = 1
    FILE = 2
    LOG = 3
    KEY = 4  #: nothing: the values that it encrypts are beside it


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """What everything that follows is bound to."""

    kind: Kind
    keyset: bytes
    context_hash: bytes

    @classmethod
    def of(cls, kind: Kind, keyset: bytes, context: str) -> Self:
        """That of something new."""
        return cls(kind=kind, keyset=keyset, context_hash=hash_context(context))

    def as_bytes(self) -> bytes:
        """56 bytes."""
        return MAGIC + bytes([FORMAT, SUITE, self.kind, 0]) + self.keyset + self.context_hash

    @classmethod
    def parse(cls, content: bytes, *, subject: str) -> Self:
        """The prefix at the beginning of *content*.

        Raises:
            UnsupportedFormat: when it does not begin as encrypted data does, or is of a newer format.
            Truncated: when it is shorter.
        """
        if not content.startswith(MAGIC[: len(content)]):
            raise UnsupportedFormat(f"{subject} is not encrypted", remedy="Something else was put in its place.")
        if len(content) < PREFIX_BYTES:
            raise Truncated(f"{subject} has {len(content)} bytes, less than a header", remedy=RESTORE)
        form, suite, kind, reserved = content[len(MAGIC) : len(MAGIC) + 4]
        if (form, suite, reserved) != (FORMAT, SUITE, 0) or kind not in list(Kind):
            raise UnsupportedFormat(
                f"{subject} has format {form}, suite {suite}, kind {kind}; this version reads {FORMAT}, {SUITE} and 1 to 4",
                remedy="Use the version of the workbench that wrote it, or a later one.",
            )
        identifier = content[len(MAGIC) + 4 : PREFIX_BYTES - HASH_BYTES]
        return cls(kind=Kind(kind), keyset=identifier, context_hash=content[PREFIX_BYTES - HASH_BYTES : PREFIX_BYTES])

    def check(self, kind: Kind, keyset: bytes, *, context: str | None, subject: str) -> None:
        """Make sure that it is what it is taken for.

        Raises:
            UnsupportedFormat: when it is of another kind.
            WrongKey: when it was encrypted with another keyset.
            OtherContext: when it was encrypted for another context; None does not look.
        """
        if self.kind is not kind:
            raise UnsupportedFormat(
                f"{subject} is a {self.kind.name.lower()}, not a {kind.name.lower()}", remedy="Read it as what it is."
            )
        if self.keyset != keyset:
            raise WrongKey(
                f"{subject} was encrypted with the keyset {self.keyset.hex()[:8]}…, not with {keyset.hex()[:8]}…",
                remedy="Use the keyset of the workbench that wrote it.",
            )
        if context is not None and self.context_hash != hash_context(context):
            raise OtherContext(
                f"{subject} was encrypted for another place than {context!r}",
                remedy="It was moved or exchanged: put it back where it was written.",
            )


def hash_context(context: str) -> bytes:
    """How a context stands in a header. It is no secret."""
    return hashlib.sha256(context.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The wrapped key of one object."""

    version: int
    wrapped: bytes

    def as_bytes(self) -> bytes:
        """108 bytes."""
        return self.version.to_bytes(VERSION_BYTES, "big") + self.wrapped


def parse_slots(header: bytes) -> list[Slot | None]:
    """The slots of a whole header; None for an empty one."""
    found: list[Slot | None] = []
    for start in range(PREFIX_BYTES, HEADER_BYTES, SLOT_BYTES):
        slot = header[start : start + SLOT_BYTES]
        version = int.from_bytes(slot[:VERSION_BYTES], "big")
        found.append(None if slot == EMPTY else Slot(version=version, wrapped=slot[VERSION_BYTES:]))
    return found
