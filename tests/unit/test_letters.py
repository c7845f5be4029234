"""Dead letters packed and encrypted, without a database."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.keysets import make_keys, open_keys
from workbench.errors import Corrupt, EncryptionError, OtherContext, Truncated, UnsupportedFormat
from workbench.loading import DEAD_LETTERS
from workbench.security.encryption.data_keys import DATA_KEY_BYTES, open_data_key, rewrapped, writing_data_key
from workbench.warehouse.letters.keys import LetterKeys
from workbench.warehouse.letters.sealing import as_table, pack, unpack

BYTES = st.none() | st.binary(max_size=40)
LETTERS = st.lists(
    st.fixed_dictionaries(
        {
            "topic": st.text(max_size=5).filter(lambda text: "\0" not in text),
            "record_partition": st.integers(0, 9),
            "record_offset": st.integers(0, 2**40),
            "record_timestamp": st.none(),
            "record_key": BYTES,
            "record_value": BYTES,
            "reason": st.text(max_size=20),
            "target": st.none() | st.just("s.t"),
            "record_headers": st.none() | st.lists(st.tuples(st.text(max_size=5), st.none())).map(json.dumps),
            "encrypted_with": st.none(),
        }
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("letters"))


@pytest.fixture(scope="module")
def writer(keys):
    return LetterKeys(keys, "a test")


@pytest.fixture(scope="module")
def reader(keys):
    """As another process."""
    return LetterKeys(open_keys(keys.file.path.parent.parent), "a test")


@given(st.lists(BYTES, max_size=5))
def test_parts_come_back_as_they_were(parts):
    assert unpack(pack(*parts)) == parts


@given(LETTERS)
def test_letters_come_back_as_they_were_and_nothing_of_a_record_stands_in_them(writer, reader, letters):
    table = as_table(letters, DEAD_LETTERS)
    with writer.sealer() as sealer:
        sealed = sealer.seal(table)

    assert sealed.schema == DEAD_LETTERS
    rows = sealed.to_pylist()
    assert {(row["record_key"], row["record_headers"]) for row in rows} <= {(None, None)}
    assert len({row["reason"] for row in rows}) == len({each["reason"] for each in letters})
    assert as_table([reader.unsealed(row) for row in rows], DEAD_LETTERS).equals(table)


def test_a_data_key_is_used_again_until_its_version_is_no_primary_any_more(tmp_path):
    keys = make_keys(tmp_path)
    letters = LetterKeys(keys, "a test")
    with letters.sealer() as first, letters.sealer() as second:
        assert first is second
    keys.file.change(lambda keyset: keyset.rotated())
    keys.file.change(lambda keyset: keyset.promoted())
    with letters.sealer() as third:
        assert (first.key.version, third.key.version) == (1, 2)
    assert [each.version for each in keys.inventory.entries()] == [1, 2]
    assert first.key.key.hex() not in repr(first.key)


def test_every_change_of_a_header_or_a_letter_is_refused(keys):
    with writing_data_key(keys, "here", holder="a test") as key:
        message = key.encrypt(b"content", "1")
    assert len(key.header) == DATA_KEY_BYTES
    for position in range(DATA_KEY_BYTES):
        changed = bytearray(key.header)
        changed[position] ^= 1
        with pytest.raises(EncryptionError):
            open_data_key(keys, bytes(changed), "here", subject="it")
    for cut in (0, 10, 56, DATA_KEY_BYTES - 1):
        with pytest.raises(EncryptionError):
            open_data_key(keys, key.header[:cut], "here", subject="it")
    with pytest.raises(OtherContext):
        open_data_key(keys, key.header, "there", subject="it")
    with pytest.raises(UnsupportedFormat):
        open_data_key(keys, b"x" * DATA_KEY_BYTES, "here", subject="it")
    for position in range(len(message)):
        changed = bytearray(message)
        changed[position] ^= 1
        with pytest.raises(Corrupt):
            key.decrypt(bytes(changed), "1")
    with pytest.raises(Truncated):
        key.decrypt(message[:60], "1")
    with pytest.raises(Corrupt, match="moved from another place"):
        key.decrypt(message, "2")


def test_a_data_key_under_another_version_decrypts_the_same(tmp_path):
    keys = make_keys(tmp_path)
    with writing_data_key(keys, "here", holder="a test") as key:
        message = key.encrypt(b"content", "1")
    keys.file.change(lambda keyset: keyset.rotated())
    primary = keys.file.change(lambda keyset: keyset.promoted()).primary

    moved = rewrapped(key, primary)

    assert (key.version, moved.version) == (1, 2)
    assert open_data_key(keys, moved.header, "here", subject="it").decrypt(message, "1") == b"content"


@pytest.mark.parametrize("text", ["", "no base64!", base64.b64encode(b"something else").decode()])
def test_what_is_no_header_is_refused(keys, text):
    row = dict.fromkeys(DEAD_LETTERS.names) | {"encrypted_with": text}
    with pytest.raises(EncryptionError):
        LetterKeys(keys, "a test").unsealed(row)


def test_a_table_without_letters_stays_one(keys):
    with LetterKeys(keys, "a test").sealer() as sealer:
        assert sealer.seal(DEAD_LETTERS.empty_table()).equals(DEAD_LETTERS.empty_table())
