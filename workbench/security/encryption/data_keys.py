"""Keys for many small values: one is made, wrapped by the primary, and kept beside the values that it encrypts.

Whoever has a data key needs no keyset, so it can go where the keyset is not, such as to executors.
A rotation changes its header, never the values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from workbench.errors import Corrupt, Truncated, WrongKey
from workbench.security.encryption.header import PREFIX_BYTES, SLOT_BYTES, VERSION_BYTES, Kind, Prefix, Slot
from workbench.security.encryption.sealing import unwrap, wrap
from workbench.security.keyset.opening import Keys
from workbench.security.keyset.versions import Keyset, KeyVersion
from workbench.security.messages import KEY_BYTES, RESTORE, decrypt_message, encrypt_message

DATA_KEY_BYTES = PREFIX_BYTES + SLOT_BYTES  #: of a header


@dataclass(frozen=True)
class DataKey:
    """A key with the header that holds it, wrapped."""

    header: bytes
    key: bytes = field(repr=False)

    @property
    def version(self) -> int:
        """The version of the keyset that wraps it."""
        return _slot(self.header).version

    def encrypt(self, value: bytes, place: str) -> bytes:
        """*value* as a message of 72 bytes more, which can be read at this *place* only."""
        return encrypt_message(self.key, value, self._context(place))

    def decrypt(self, message: bytes, place: str, *, subject: str = "the value") -> bytes:
        """What `encrypt` was given for this *place*; errors call it *subject*.

        Raises:
            Corrupt, Truncated: when it was changed, is of another place, or is cut off.
        """
        try:
            return decrypt_message(self.key, message, self._context(place), subject=subject)
        except WrongKey:
            raise Corrupt(f"{subject} was changed, or moved from another place", remedy=RESTORE) from None

    def _context(self, place: str) -> bytes:
        return b"workbench/data\0" + self.header[:PREFIX_BYTES] + place.encode("utf-8", "surrogatepass")


@contextmanager
def writing_data_key(keys: Keys, context: str, *, holder: str, before: DataKey | None = None) -> Iterator[DataKey]:
    """A data key of the primary. While the context is open, no version changes its state.

    Args:
        keys: of the workbench.
        context: what it is for. No secret; who reads gives the same.
        holder: who keeps what it encrypts, as the inventory names it.
        before: one that was used before; it is given again while its version is the primary.

    Raises:
        KeysetError, EncryptionError: when the keyset cannot be used.
    """
    with keys.file.writing_key() as (keyset, primary):
        prefix = Prefix.of(Kind.KEY, keyset.id, context).as_bytes()
        if before is not None and before.version == primary.number and before.header.startswith(prefix):
            yield before
            return
        keys.inventory.hold(holder, primary.number)
        yield _fresh(prefix, primary)


@contextmanager
def writing_data_keys(keys: Keys, *, holder: str) -> Iterator[Callable[[str], DataKey]]:
    """What makes data keys of the primary, each for a context of its own. While this is open, no version changes its state.

    Args:
        keys: of the workbench.
        holder: who keeps the headers, as the inventory names it.

    Raises:
        KeysetError, EncryptionError: when the keyset cannot be used.
    """
    with keys.file.writing_key() as (keyset, primary):
        keys.inventory.hold(holder, primary.number)
        yield lambda context: _fresh(Prefix.of(Kind.KEY, keyset.id, context).as_bytes(), primary)


def open_data_key(keys: Keys, header: bytes, context: str, *, subject: str, keyset: Keyset | None = None) -> DataKey:
    """The data key in *header*.

    Args:
        keys: of the workbench.
        header: of the data key.
        context: what it is for.
        subject: what errors call it.
        keyset: that of *keys*, for who opens many at once and has just read it.

    Raises:
        WrongKey, UnknownKeyVersion, KeyDisabled, OtherContext, Truncated, Corrupt, UnsupportedFormat: as they say.
        KeysetError: when the keyset cannot be used.
    """
    prefix = Prefix.parse(header, subject=subject)
    keyset = keyset or keys.file.read()
    prefix.check(Kind.KEY, keyset.id, context=context, subject=subject)
    if len(header) != DATA_KEY_BYTES:
        raise Truncated(f"{subject} has a header of {len(header)} bytes, not of {DATA_KEY_BYTES}", remedy=RESTORE)
    slot = _slot(header)
    key = unwrap(header[:PREFIX_BYTES], slot, keyset.reading_key(slot.version), subject=subject)
    return DataKey(header, key)


def rewrapped(key: DataKey, primary: KeyVersion) -> DataKey:
    """The same key under another version; what it has encrypted is read with either header."""
    prefix = key.header[:PREFIX_BYTES]
    return DataKey(prefix + wrap(prefix, primary, key.key).as_bytes(), key.key)


def _fresh(prefix: bytes, primary: KeyVersion) -> DataKey:
    key = os.urandom(KEY_BYTES)
    return DataKey(prefix + wrap(prefix, primary, key).as_bytes(), key)


def _slot(header: bytes) -> Slot:
    slot = header[PREFIX_BYTES:]
    return Slot(version=int.from_bytes(slot[:VERSION_BYTES], "big"), wrapped=slot[VERSION_BYTES:])
