"""Headers with keys: one is made for a new object, one is opened for a reader.

Each file and each log has a random key of its own, which the primary version of the keyset wraps.
Nothing but that wrapped key depends on the version.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from workbench.errors import Corrupt, EncryptionError, Truncated
from workbench.security.encryption.header import (
    EMPTY,
    HEADER_BYTES,
    PREFIX_BYTES,
    VERSION_BYTES,
    Kind,
    Prefix,
    Slot,
    parse_slots,
)
from workbench.security.keyset.inventory import Noted
from workbench.security.keyset.opening import Keys
from workbench.security.keyset.versions import KeyVersion
from workbench.security.messages import KEY_BYTES, RESTORE, decrypt_message, encrypt_message


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """The key of one object, and what its content is bound to."""

    header: bytes
    key: bytes = field(repr=False)
    noted: Noted | None = None  #: in the inventory; None for one that was opened

    @property
    def prefix(self) -> bytes:
        """The part of the header that a rewrap leaves as it is."""
        return self.header[:PREFIX_BYTES]

    @property
    def body_context(self) -> bytes:
        """What the body of a file is bound to."""
        return b"workbench/body\0" + self.prefix

    def frame_context(self, position: int) -> bytes:
        """What the frame of a log is bound to that begins at byte *position*."""
        return b"workbench/frame\0" + self.prefix + position.to_bytes(8, "big")


def seal(keys: Keys, kind: Literal["file", "log"], path: Path, context: str) -> Sealed:
    """A new header for *path*, noted in the inventory as being written by this process.

    Raises:
        KeysetError, EncryptionError: when the keyset cannot be used.
    """
    of = {"file": Kind.FILE, "log": Kind.LOG}[kind]
    with keys.file.writing_key() as (keyset, primary):
        prefix = Prefix.of(of, keyset.id, context).as_bytes()
        key = os.urandom(KEY_BYTES)
        noted = keys.inventory.note(kind, path, primary.number)
    return Sealed(header=prefix + wrap(prefix, primary, key).as_bytes() + EMPTY, key=key, noted=noted)


def read_header(keys: Keys, file: BinaryIO, kind: Kind, context: str, *, subject: str) -> Sealed:
    """As `unseal`, of what *file* begins with; the file stands behind its header then.

    Raises:
        As `unseal`.
    """
    header = os.pread(file.fileno(), HEADER_BYTES, 0)
    file.seek(HEADER_BYTES)
    while True:
        try:
            return unseal(keys, header, kind, context=context, subject=subject)
        except Corrupt:
            # A rewrap may have been in the midst of its write: what has changed meanwhile is looked at again.
            before, header = header, os.pread(file.fileno(), HEADER_BYTES, 0)
            if header == before:
                raise


def unseal(keys: Keys, header: bytes, kind: Kind, *, context: str | None, subject: str) -> Sealed:
    """The key of the object that begins with *header*.

    Raises:
        UnsupportedFormat, Truncated, WrongKey, OtherContext: as `Prefix`.
        UnknownKeyVersion, KeyDisabled: when the version is not there or may not be used.
        Corrupt: when the header was changed.
        KeysetError: when the keyset cannot be used.
    """
    prefix = Prefix.parse(header, subject=subject)
    keyset = keys.file.read()
    prefix.check(kind, keyset.id, context=context, subject=subject)
    if len(header) < HEADER_BYTES:
        raise Truncated(f"{subject} has {len(header)} bytes, less than a header", remedy=RESTORE)
    filled = [slot for slot in parse_slots(header) if slot is not None]
    # Two in the midst of a rewrap: then both are good, and have the same key.
    found = {unwrap(header[:PREFIX_BYTES], slot, keyset.reading_key(slot.version), subject=subject) for slot in filled}
    if len(found) != 1:
        raise Corrupt(f"the header of {subject} was changed", remedy=RESTORE)
    return Sealed(header=header[:HEADER_BYTES], key=found.pop())


def wrap(prefix: bytes, version: KeyVersion, key: bytes) -> Slot:
    """The slot that holds *key* under *version*."""
    return Slot(
        version=version.number, wrapped=encrypt_message(version.key, key, _wrap_context(prefix, version.number))
    )


def unwrap(prefix: bytes, slot: Slot, version_key: bytes, *, subject: str) -> bytes:
    """The key in *slot*.

    Raises:
        Corrupt: when it is not what was wrapped.
    """
    context = _wrap_context(prefix, slot.version)
    try:
        return decrypt_message(version_key, slot.wrapped, context, subject=subject)
    except EncryptionError:
        # Its keyset and version are ours: it was changed.
        raise Corrupt(f"the header of {subject} was changed", remedy=RESTORE) from None


def _wrap_context(prefix: bytes, version: int) -> bytes:
    return b"workbench/wrap\0" + prefix + version.to_bytes(VERSION_BYTES, "big")
