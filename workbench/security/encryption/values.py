"""Small values, such as a password in a column: each is encrypted at once, under the keyset itself.

A value costs 132 bytes more than it has. Key and nonce of AES-256-GCM are derived for each value,
so that there is no number of values after which a version has to be rotated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workbench.errors import Corrupt, KeysetError, Truncated, WrongKey
from workbench.security.encryption.header import PREFIX_BYTES, VERSION_BYTES, Kind, Prefix
from workbench.security.keyset.opening import Keys
from workbench.security.messages import RESTORE, decrypt_message, encrypt_message

VALUE_BYTES = 1 << 20  #: what is longer belongs into a file


def encrypt_value(keys: Keys, value: bytes, context: str, *, holder: str) -> bytes:
    """*value*, encrypted.

    Args:
        keys: of the workbench.
        value: at most 1 MiB.
        context: where it belongs, such as the table, the key of the row and the column. No secret; who reads gives the same.
        holder: who keeps it. The inventory names it, since nobody else can find its values:
            `retire` refuses until the holder has encrypted all anew, as `encrypting_anew` says.

    Raises:
        KeysetError, EncryptionError: when the keyset cannot be used, or the value is too long.
    """
    if len(value) > VALUE_BYTES:
        raise KeysetError(f"a value of {len(value):,} bytes is too long", remedy="Encrypt it as a file.")
    with keys.file.writing_key() as (keyset, primary):
        prefix = Prefix.of(Kind.VALUE, keyset.id, context).as_bytes()
        keys.inventory.hold(holder, primary.number)
    message = encrypt_message(primary.key, value, _context(prefix, primary.number))
    return prefix + primary.number.to_bytes(VERSION_BYTES, "big") + message


def decrypt_value(keys: Keys, sealed: bytes, context: str, *, subject: str = "the value") -> bytes:
    """What `encrypt_value` was given; errors call it *subject*.

    Raises:
        WrongKey, UnknownKeyVersion, KeyDisabled, OtherContext, Truncated, Corrupt, UnsupportedFormat: as they say.
        KeysetError: when the keyset cannot be used.
    """
    prefix, number = _parse(sealed, subject)
    keyset = keys.file.read()
    prefix.check(Kind.VALUE, keyset.id, context=context, subject=subject)
    bound = _context(sealed[:PREFIX_BYTES], number)
    try:
        return decrypt_message(
            keyset.reading_key(number), sealed[PREFIX_BYTES + VERSION_BYTES :], bound, subject=subject
        )
    except WrongKey:
        # Its keyset and version are ours: it was changed.
        raise Corrupt(f"the header of {subject} was changed", remedy=RESTORE) from None


def value_version(sealed: bytes, *, subject: str = "the value") -> int:
    """The version that a value says it was encrypted with.

    Raises:
        UnsupportedFormat, Truncated: when it is none.
    """
    return _parse(sealed, subject)[1]


@contextmanager
def encrypting_anew(keys: Keys, holder: str) -> Iterator[None]:
    """While it is open, the *holder* encrypts all its values anew; without an error, no older version is needed for them.

    Of a version that becomes the primary meanwhile, and of the one before it, values may be left. So only those are
    released that were older at the beginning: nobody encrypts with them any more.

    Raises:
        KeysetError, EncryptionError: when the keyset cannot be used.
    """
    with keys.file.writing_key() as (_, primary):
        older = keys.inventory.held(holder) - {primary.number}
    yield
    keys.inventory.release(holder, older)


def _parse(sealed: bytes, subject: str) -> tuple[Prefix, int]:
    prefix = Prefix.parse(sealed, subject=subject)
    number = sealed[PREFIX_BYTES : PREFIX_BYTES + VERSION_BYTES]
    if len(number) < VERSION_BYTES:
        raise Truncated(f"{subject} has {len(sealed)} bytes, less than a header", remedy=RESTORE)
    return prefix, int.from_bytes(number, "big")


def _context(prefix: bytes, version: int) -> bytes:
    return b"workbench/value\0" + prefix + version.to_bytes(VERSION_BYTES, "big")
