"""Messages in the format of C2SP's chunked encryption, against the vectors of project Wycheproof (Apache-2.0)."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import Corrupt, Truncated, WrongKey
from workbench.security.messages import (
    BEGIN_BYTES,
    CHUNK_BYTES,
    SEALED_CHUNK_BYTES,
    decrypt_message,
    encrypt_message,
    encrypted_pieces,
    message_bytes,
)

# testvectors_v1/c2sp_chunked_encryption_aes_256_gcm_test.json of C2SP/wycheproof, made with filippo.io/cobblestone.
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors" / "c2sp_chunked_encryption_aes_256_gcm.json").read_text()
)["testGroups"][0]["tests"]
KEY = bytes(range(32))
# Sizes on both sides of every boundary of one, two and many chunks, and of what is read at once.
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 64 * CHUNK_BYTES, 64 * CHUNK_BYTES + 1]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['tcId']} {vector['comment']}")
def test_vectors(vector: dict[str, Any]):
    message = zlib.decompress(bytes.fromhex(vector["ct"]))
    key, context = bytes.fromhex(vector["key"]), bytes.fromhex(vector["ctx"])

    if vector["result"] == "valid":
        plaintext = decrypt_message(key, message, context, subject="it")
        assert len(plaintext) == vector["msgLength"]
        assert hashlib.sha512(plaintext).hexdigest() == vector["msgSha512"]
        return
    expected = ValueError if "InvalidKeySize" in vector["flags"] else (WrongKey, Truncated, Corrupt)
    with pytest.raises(expected):
        decrypt_message(key, message, context, subject="it")


def test_there_are_vectors_of_both_kinds():
    results = [vector["result"] for vector in VECTORS]

    assert (results.count("valid"), results.count("invalid")) == (10, 25)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_encrypted_piece_by_piece_is_one_message(size: int):
    plaintext = bytes(size)

    message = b"".join(encrypted_pieces(KEY, io.BytesIO(plaintext), b"context"))

    assert len(message) == message_bytes(size)
    assert decrypt_message(KEY, message, b"context", subject="it") == plaintext


@given(plaintext=st.binary(max_size=300), context=st.binary(max_size=50))
def test_messages_come_back(plaintext: bytes, context: bytes):
    assert decrypt_message(KEY, encrypt_message(KEY, plaintext, context), context, subject="it") == plaintext


def test_the_first_wrong_chunk_is_named():
    message = bytearray(encrypt_message(KEY, bytes(3 * CHUNK_BYTES + 5), b""))
    message[BEGIN_BYTES + 2 * SEALED_CHUNK_BYTES] ^= 1

    with pytest.raises(Corrupt, match="chunk 2 is not authentic") as caught:
        decrypt_message(KEY, bytes(message), b"", subject="it")

    assert caught.value.chunk == 2


@pytest.mark.parametrize(
    ("key", "context"), [(bytes(32), b"context"), (KEY, b"another"), (KEY, b"")], ids=["key", "context", "no context"]
)
def test_another_key_or_context_is_noticed_before_any_chunk(key: bytes, context: bytes):
    message = encrypt_message(KEY, b"text", b"context")

    with pytest.raises(WrongKey, match="it was encrypted with another key"):
        decrypt_message(key, message[:BEGIN_BYTES], context, subject="it")
