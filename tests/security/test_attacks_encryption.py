"""Whoever can change encrypted files gets errors out of readers, and nothing else: no content, no file."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import pytest

from tests.services.keysets import make_keys, open_keys, turn
from workbench.errors import (
    Corrupt,
    EncryptionError,
    KeysetError,
    OtherContext,
    Truncated,
    UnsupportedFormat,
    WrongKey,
)
from workbench.security.encryption.files import decrypt_file, read_encrypted, write_encrypted
from workbench.security.encryption.header import HEADER_BYTES
from workbench.security.encryption.logs import FrameReader, FrameSealer
from workbench.security.encryption.rewrapping import retire, rewrap
from workbench.security.encryption.values import decrypt_value, encrypt_value
from workbench.security.keyset.opening import Keys
from workbench.security.keyset.versions import KeyState
from workbench.security.messages import BEGIN_BYTES, CHUNK_BYTES, SEALED_CHUNK_BYTES

SEED = 8
BODY = HEADER_BYTES + BEGIN_BYTES


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("attacked"))


@pytest.fixture
def sealed(keys: Keys, tmp_path: Path) -> bytes:
    """A file with a header, three whole chunks and a short one."""
    write_encrypted(keys, random.Random(SEED).randbytes(3 * CHUNK_BYTES + 100), tmp_path / "file", "here")
    return (tmp_path / "file").read_bytes()


@pytest.fixture
def small(keys: Keys, tmp_path: Path) -> bytes:
    write_encrypted(keys, b"a short text", tmp_path / "small", "here")
    return (tmp_path / "small").read_bytes()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def refuses(keys: Keys, attacks: Iterable[bytes], folder: Path) -> int:
    """Each is refused with a type of its own, and leaves no file, whole or in part."""
    source, target = folder / "attacked", folder / "plain"
    count = 0
    for content in attacks:
        source.write_bytes(content)
        with pytest.raises(EncryptionError) as caught:
            decrypt_file(keys, source, target, "here")
        assert type(caught.value) is not EncryptionError
        assert caught.value.remedy
        count += 1
    assert {path.name for path in folder.iterdir()} <= {"attacked", "file", "small"}
    return count


def test_every_bit_of_a_short_file(keys: Keys, small: bytes, tmp_path: Path):
    assert refuses(keys, (flipped(small, bit) for bit in range(8 * len(small))), tmp_path) == 8 * len(small)


def test_two_thousand_bits_of_a_longer_file(keys: Keys, sealed: bytes, tmp_path: Path):
    bits = random.Random(SEED).sample(range(8 * HEADER_BYTES, 8 * len(sealed)), 2_000)

    refuses(keys, (flipped(sealed, bit) for bit in bits), tmp_path)


def test_a_wrong_bit_names_its_chunk(keys: Keys, sealed: bytes, tmp_path: Path):
    for chunk in range(4):
        (tmp_path / "file").write_bytes(flipped(sealed, 8 * (BODY + chunk * SEALED_CHUNK_BYTES + 7)))
        with pytest.raises(Corrupt) as caught:
            read_encrypted(keys, tmp_path / "file", "here")
        assert caught.value.chunk == chunk


def test_every_truncation(keys: Keys, small: bytes, sealed: bytes, tmp_path: Path):
    refuses(keys, (small[:length] for length in range(len(small))), tmp_path)
    ends = [BODY + chunk * SEALED_CHUNK_BYTES + more for chunk in range(4) for more in (-1, 0, 1, 15, 16, 17)]
    refuses(keys, (sealed[:end] for end in ends), tmp_path)


def test_truncations_are_called_so(keys: Keys, sealed: bytes, tmp_path: Path):
    for end in (0, 3, 100, HEADER_BYTES, BODY - 1, BODY, BODY + SEALED_CHUNK_BYTES, BODY + 3 * SEALED_CHUNK_BYTES):
        (tmp_path / "file").write_bytes(sealed[:end])
        with pytest.raises(Truncated):
            read_encrypted(keys, tmp_path / "file", "here")


def test_chunks_that_are_exchanged_left_out_repeated_or_added(keys: Keys, sealed: bytes, tmp_path: Path):
    begin = sealed[:BODY]
    chunks = [sealed[start : start + SEALED_CHUNK_BYTES] for start in range(BODY, len(sealed), SEALED_CHUNK_BYTES)]
    orders = [order for order in itertools.permutations(range(4)) if order != (0, 1, 2, 3)]
    orders += [(1, 2, 3), (0, 2, 3), (0, 1, 3), (3,), (0, 0, 1, 2, 3), (0, 1, 2, 3, 3), (0, 1, 2, 2, 3)]

    refuses(keys, (begin + b"".join(chunks[each] for each in order) for order in orders), tmp_path)
    refuses(keys, [sealed + b"\0", sealed + sealed, sealed + chunks[0]], tmp_path)


def test_headers_and_chunks_of_another_file(keys: Keys, sealed: bytes, tmp_path: Path):
    write_encrypted(keys, random.Random(SEED).randbytes(3 * CHUNK_BYTES + 100), tmp_path / "file", "here")
    other = (tmp_path / "file").read_bytes()
    cuts = [4, 8, 24, 56, 60, 164, 168, HEADER_BYTES, HEADER_BYTES + 24, BODY, BODY + SEALED_CHUNK_BYTES]

    refuses(keys, [mixed for cut in cuts[2:] for mixed in (sealed[:cut] + other[cut:],) if mixed != other], tmp_path)
    # The first bytes are those of every file: with them exchanged, it is the other file.
    assert all(sealed[:cut] == other[:cut] for cut in cuts[:4])


def test_another_context(keys: Keys, tmp_path: Path, sealed: bytes):
    for context in ("", "her", "here ", "Here", "here\0"):
        with pytest.raises(OtherContext):
            decrypt_file(keys, tmp_path / "file", tmp_path / "plain", context)
    assert not (tmp_path / "plain").exists()


def test_what_is_not_encrypted_is_never_passed_through(keys: Keys, tmp_path: Path):
    for content in (b"{}", b"plain text " * 1000, b"\0" * 500, b"\x97AWC" + bytes(500)):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(UnsupportedFormat):
            decrypt_file(keys, tmp_path / "file", tmp_path / "plain", "here")
    assert not (tmp_path / "plain").exists()


def test_one_kind_is_not_taken_for_another(keys: Keys, tmp_path: Path):
    value = encrypt_value(keys, b"value", "here", holder="a table")
    log = FrameSealer.of(keys, tmp_path / "log", "here")
    write_encrypted(keys, b"text", tmp_path / "file", "here")
    (tmp_path / "log").write_bytes(log.header + log.frame(b"text", HEADER_BYTES))
    (tmp_path / "value").write_bytes(value)

    for name in ("log", "value"):
        with pytest.raises((UnsupportedFormat, Corrupt)):
            read_encrypted(keys, tmp_path / name, "here")
    with pytest.raises(UnsupportedFormat):
        decrypt_value(keys, (tmp_path / "file").read_bytes(), "here")
    with (tmp_path / "file").open("rb") as file, pytest.raises(UnsupportedFormat):
        FrameReader.of(keys, file, "here", subject="it")


def test_every_bit_of_a_value(keys: Keys):
    sealed = encrypt_value(keys, b"value", "here", holder="a table")

    for bit in range(8 * len(sealed)):
        with pytest.raises(EncryptionError):
            decrypt_value(keys, flipped(sealed, bit), "here")
    for length in range(len(sealed)):
        with pytest.raises(EncryptionError):
            decrypt_value(keys, sealed[:length], "here")


def test_every_bit_of_a_log_ends_it_there(keys: Keys, tmp_path: Path):
    path = tmp_path / "log"
    sealer = FrameSealer.of(keys, path, "here")
    whole = sealer.header
    for content in (b"one", b"two"):
        whole += sealer.frame(content, len(whole))

    for bit in range(8 * len(whole)):
        path.write_bytes(flipped(whole, bit))
        found: list[bytes] = []
        with path.open("rb") as file, contextlib.suppress(EncryptionError):
            found.extend(content for content, _ in FrameReader.of(keys, file, "here", subject="it").frames())
        # What a changed length hides looks like a frame that is not whole yet: nothing after it is told either.
        assert found in ([], [b"one"]), bit


def test_every_bit_of_the_keyset(tmp_path: Path):
    keys = make_keys(tmp_path)
    content, before = keys.file.path.read_bytes(), keys.file.read()
    bits = random.Random(SEED).sample(range(8 * len(content)), 1_500)

    for bit in bits:
        keys.file.path.write_bytes(flipped(content, bit))
        try:
            # White space and the case of digits say the same.
            assert open_keys(tmp_path).file.read() == before
        except (KeysetError, WrongKey, Corrupt, Truncated, UnsupportedFormat):
            continue


class Load:
    """Threads that read and write as processes of their own would, until the context is left."""

    def __init__(self, home: Path, works: list[Callable[[Keys], object]]) -> None:
        self.failures: list[BaseException] = []
        self.done = [0] * len(works)
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(home, *each)) for each in enumerate(works)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, home: Path, number: int, work: Callable[[Keys], object]) -> None:
        own = open_keys(home)
        while not self._is_over.is_set():
            try:
                work(own)
            except BaseException as error:  # noqa: BLE001 - it is what the test looks for
                self.failures.append(error)
            self.done[number] += 1


def test_rotation_under_load_fails_no_read(tmp_path: Path):
    keys = make_keys(tmp_path / "home")
    path, log, new = tmp_path / "file", tmp_path / "log", tmp_path / "new"
    write_encrypted(keys, bytes(50_000), path, "here")
    sealer = FrameSealer.of(keys, log, "log")
    log.write_bytes(sealer.header + sealer.frame(b"one", HEADER_BYTES))

    def read_log(own: Keys) -> None:
        with log.open("rb") as file:
            assert [each for each, _ in FrameReader.of(own, file, "log", subject="it").frames()] == [b"one"]

    def read_file(own: Keys) -> None:
        assert read_encrypted(own, path, "here") == bytes(50_000)

    def write_and_read(own: Keys) -> None:
        write_encrypted(own, b"new", new, "here")
        assert read_encrypted(own, new, "here") == b"new"

    with Load(tmp_path / "home", [read_file, read_file, read_log, write_and_read, write_and_read]) as load:
        for version in range(1, 8):
            turn(keys)
            # A writer may be at work with it: then it is kept, and retired below.
            with contextlib.suppress(KeysetError):
                retire(keys, version)

    assert load.failures == []
    assert all(load.done), load.done
    rewrap(keys)
    for each in keys.file.read().versions[:-1]:
        if each.state is KeyState.DECRYPT_ONLY:
            retire(keys, each.number)
    read_file(keys)
    read_log(keys)
    assert read_encrypted(keys, new, "here") == b"new"
