"""Whole files: written beside their place and renamed when all of it is there, read to the last chunk before any is used."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from workbench.errors import Corrupt, WrongKey
from workbench.security.encryption.header import HEADER_BYTES, Kind, Prefix, parse_slots
from workbench.security.encryption.sealing import read_header, seal
from workbench.security.keyset.opening import Keys
from workbench.security.messages import RESTORE, decrypted_pieces, encrypted_pieces
from workbench.security.secrets import sync_folder


def encrypt_file(keys: Keys, source: Path, target: Path, context: str) -> None:
    """Encrypt *source* into *target*, which appears whole, at mode 0600, and on the disk; memory use does not depend on its size.

    Args:
        keys: of the workbench.
        source: a file.
        target: in a folder that exists; a file that is there is replaced.
        context: where it belongs, such as its purpose and the run. No secret; who reads gives the same.

    Raises:
        KeysetError, EncryptionError: when the keyset cannot be used.
        OSError: when *source* cannot be read or *target* not be written; it is as it was.
    """
    with source.open("rb") as file:
        _encrypt(keys, file, target, context)


def write_encrypted(keys: Keys, content: bytes, target: Path, context: str) -> None:
    """As `encrypt_file`, of bytes."""
    _encrypt(keys, io.BytesIO(content), target, context)


def encrypt_stream(keys: Keys, source: io.BufferedIOBase, target: Path, context: str) -> None:
    """As `encrypt_file`, of all that can be read from *source*; an error while reading leaves no file."""
    _encrypt(keys, source, target, context)


def decrypted_stream(keys: Keys, source: Path, context: str) -> Iterator[memoryview | bytes]:
    """The content of what `encrypt_stream` has written, about 1 MiB at a time.

    Each piece is good until the next one is asked for. The whole is authentic only when the iterator has
    ended: until then nothing may be done with the pieces that cannot be undone.

    Raises:
        As `decrypt_file`.
    """
    with source.open("rb") as file:
        yield from _decrypted(keys, file, context, str(source))


def decrypt_file(keys: Keys, source: Path, target: Path, context: str) -> None:
    """Decrypt *source* into *target*, at mode 0600, which appears when the last chunk has proved to be authentic.

    Args:
        keys: of the workbench.
        source: what `encrypt_file` has written.
        target: in a folder that exists; a file that is there is replaced.
        context: that of `encrypt_file`.

    Raises:
        WrongKey, UnknownKeyVersion, KeyDisabled, OtherContext, Truncated, Corrupt, UnsupportedFormat: as they
            say; *target* is as it was.
        KeysetError: when the keyset cannot be used.
        OSError: when *source* cannot be read or *target* not be written; it is as it was.
    """
    with source.open("rb") as file, _replacing(target) as fresh:
        fresh.writelines(_decrypted(keys, file, context, str(source)))
    sync_folder(target.parent)


def read_encrypted(keys: Keys, source: Path, context: str) -> bytes:
    """The content of what `encrypt_file` or `write_encrypted` has written.

    Raises:
        As `decrypt_file`.
    """
    with source.open("rb") as file:
        return b"".join(bytes(piece) for piece in _decrypted(keys, file, context, str(source)))


@contextmanager
def moving(keys: Keys, source: Path, target: Path) -> Iterator[None]:
    """Let the encrypted file *source* be moved to *target* in this context: the inventory names the one, both, the other.

    Raises:
        KeysetError: when the inventory cannot be written.
        EncryptionError, OSError: when *source* is no encrypted file, or cannot be read.
    """
    with source.open("rb") as file:
        header = file.read(HEADER_BYTES)
    Prefix.parse(header, subject=str(source))
    keys.inventory.found(*(("file", target, slot.version) for slot in parse_slots(header) if slot is not None))
    yield
    keys.inventory.forget_path(source)


def _encrypt(keys: Keys, source: io.BufferedIOBase, target: Path, context: str) -> None:
    sealed = seal(keys, "file", target, context)
    assert sealed.noted is not None
    try:
        with _replacing(target) as fresh:
            fresh.write(sealed.header)
            fresh.writelines(encrypted_pieces(sealed.key, source, sealed.body_context))
    except BaseException:
        keys.inventory.forget([sealed.noted.id])
        raise
    # It stands at its place: whatever fails from here on, the inventory names it.
    sync_folder(target.parent)
    keys.inventory.finish(sealed.noted)


def _decrypted(keys: Keys, source: io.BufferedReader, context: str, subject: str) -> Iterator[memoryview | bytes]:
    sealed = read_header(keys, source, Kind.FILE, context, subject=subject)
    try:
        yield from decrypted_pieces(sealed.key, source, sealed.body_context, subject=subject)
    except WrongKey:
        # The header is authentic and has another key: it is that of another file.
        raise Corrupt(f"the header of {subject} is not that of its content", remedy=RESTORE) from None


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of *target* when the context is left without an error; its folder is not synced."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
