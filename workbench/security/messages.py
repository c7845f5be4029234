"""Single messages under one key, in the format of C2SP's chunked encryption with AES-256-GCM (Cobblestone-256).

A message is a salt of 24 bytes, a commitment of 32 bytes to key and context, and chunks of 16 KiB
with a tag each, the last one shorter. Key and nonce of AES-256-GCM are derived for each message
(HKDF-Expand, SHA-512), so no nonce is ever chosen here and no count of messages has to be kept.
pyca/cryptography does all of it; this module adds which part was wrong.

Source: c2sp.org/chunked-encryption.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from workbench.errors import Corrupt, Truncated, WrongKey

KEY_BYTES = 32
SALT_BYTES = 24
BEGIN_BYTES = SALT_BYTES + 32  #: salt and commitment
TAG_BYTES = 16
CHUNK_BYTES = 16 * 1024  #: of plaintext
SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES
PIECE_CHUNKS = 64  # read at once
RESTORE = "Restore it from a backup."


def message_bytes(length: int) -> int:
    """How long a message of *length* bytes becomes."""
    return BEGIN_BYTES + length + TAG_BYTES * (length // CHUNK_BYTES + 1)


def encrypt_message(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """The message that holds *plaintext*; only who gives the same key and context can read it."""
    encryptor = Cobblestone256Encryptor(key, context)
    return encryptor.update(plaintext) + encryptor.finalize()


def decrypt_message(key: bytes, message: bytes, context: bytes, *, subject: str) -> bytes:
    """What `encrypt_message` was given.

    Args:
        key: the same.
        message: what it returned.
        context: the same.
        subject: what errors call it.

    Raises:
        WrongKey: when key or context are others, or the beginning was changed.
        Truncated: when the end is missing.
        Corrupt: when a chunk was changed.
    """
    rest = message[BEGIN_BYTES:]
    if len(rest) >= SEALED_CHUNK_BYTES:
        return b"".join(bytes(piece) for piece in decrypted_pieces(key, io.BytesIO(message), context, subject=subject))
    # Of a single chunk: the buffers for long ones would cost a thousand times what it takes.
    decryptor = Cobblestone256Decryptor(key, context)
    _begin(decryptor, message[:BEGIN_BYTES], subject)
    if len(rest) < TAG_BYTES:
        raise Truncated(f"{subject} is cut off after 0 chunks", remedy=RESTORE)
    try:
        return decryptor.update(rest) + decryptor.finalize()
    except InvalidTag:
        raise _corrupt(subject, 0, " or cut off") from None


def encrypted_pieces(key: bytes, source: io.BufferedIOBase, context: bytes) -> Iterator[memoryview | bytes]:
    """The message that holds all of *source*, about 1 MiB at a time; each piece is good until the next one is asked for."""
    encryptor = Cobblestone256Encryptor(key, context)
    # One pair of buffers for all pieces: fresh ones cost more than AES does.
    plain = memoryview(bytearray(PIECE_CHUNKS * CHUNK_BYTES))
    sealed = memoryview(bytearray(BEGIN_BYTES + (PIECE_CHUNKS + 1) * SEALED_CHUNK_BYTES))
    while length := source.readinto(plain):
        yield sealed[: encryptor.update_into(plain[:length], sealed)]
    yield encryptor.finalize()


def decrypted_pieces(
    key: bytes, source: io.BufferedIOBase, context: bytes, *, subject: str
) -> Iterator[memoryview | bytes]:
    """The plaintext of the message in *source*, about 1 MiB at a time.

    Each piece is authentic, and good until the next one is asked for. The whole is authentic only
    when the iterator has ended: until then, pieces must not be used for anything that cannot be undone.

    Raises:
        WrongKey, Truncated, Corrupt: as `decrypt_message`.
    """
    decryptor = Cobblestone256Decryptor(key, context)
    _begin(decryptor, source.read(BEGIN_BYTES), subject)
    number = rest = 0
    sealed = memoryview(bytearray(PIECE_CHUNKS * SEALED_CHUNK_BYTES))
    plain = memoryview(bytearray(PIECE_CHUNKS * CHUNK_BYTES + SEALED_CHUNK_BYTES))
    while length := source.readinto(sealed):
        filled, rest = 0, length % SEALED_CHUNK_BYTES
        # One chunk at a time: the decryptor does not say at which one it stopped.
        for start in range(0, length - rest, SEALED_CHUNK_BYTES):
            try:
                filled += decryptor.update_into(sealed[start : start + SEALED_CHUNK_BYTES], plain[filled:])
            except InvalidTag:
                raise _corrupt(subject, number) from None
            number += 1
        decryptor.update(sealed[length - rest : length])
        if filled:
            yield plain[:filled]
    if rest < TAG_BYTES:
        raise Truncated(f"{subject} is cut off after {number} chunks", remedy=RESTORE)
    try:
        yield decryptor.finalize()
    except InvalidTag:
        raise _corrupt(subject, number, " or cut off") from None


def _begin(decryptor: Cobblestone256Decryptor, begin: bytes, subject: str) -> None:
    if len(begin) < BEGIN_BYTES:
        raise Truncated(f"{subject} has {len(begin)} bytes where its encrypted part begins", remedy=RESTORE)
    try:
        decryptor.update(begin)
    except InvalidTag:
        raise WrongKey(f"{subject} was encrypted with another key, or was changed", remedy=RESTORE) from None


def _corrupt(subject: str, chunk: int, how: str = "") -> Corrupt:
    return Corrupt(f"{subject} was changed{how}: chunk {chunk} is not authentic", chunk=chunk, remedy=RESTORE)
