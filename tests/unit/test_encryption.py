from __future__ import annotations

import io
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.services.keysets import make_keys, open_keys, turn
from workbench.errors import Corrupt, KeyDisabled, KeysetError, OtherContext, Truncated, UnknownKeyVersion, WrongKey
from workbench.security.encryption import files
from workbench.security.encryption.files import decrypt_file, encrypt_file, read_encrypted, write_encrypted
from workbench.security.encryption.header import HEADER_BYTES, Kind, Prefix, Slot, parse_slots
from workbench.security.encryption.logs import FrameReader, FrameSealer
from workbench.security.encryption.rewrapping import rebuild, retire, rewrap
from workbench.security.encryption.values import decrypt_value, encrypt_value, encrypting_anew, value_version
from workbench.security.keyset.opening import Keys
from workbench.security.messages import CHUNK_BYTES

IDS = st.binary(min_size=16, max_size=16)
HASHES = st.binary(min_size=32, max_size=32)
SLOTS = st.builds(Slot, version=st.integers(1, 2**32 - 1), wrapped=st.binary(min_size=104, max_size=104))
#: one keyset for all examples of a test
ONCE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path)


def write_log(keys: Keys, path: Path, contents: list[bytes], context: str = "log") -> FrameSealer:
    sealer = FrameSealer.of(keys, path, context)
    with path.open("wb") as file:
        file.write(sealer.header)
        for content in contents:
            file.write(sealer.frame(content, file.tell()))
    return sealer


def read_log(keys: Keys, path: Path, context: str = "log") -> list[bytes]:
    with path.open("rb") as file:
        reader = FrameReader.of(keys, file, context, subject="the log")
        return [content for content, _ in reader.frames()]


@given(
    prefix=st.builds(Prefix, kind=st.sampled_from(Kind), keyset=IDS, context_hash=HASHES), slots=st.tuples(SLOTS, SLOTS)
)
def test_headers_come_back(prefix: Prefix, slots: tuple[Slot, Slot]):
    header = prefix.as_bytes() + b"".join(each.as_bytes() for each in slots)

    assert len(header) == HEADER_BYTES
    assert Prefix.parse(header, subject="it") == prefix
    assert tuple(parse_slots(header)) == slots


@ONCE
@given(value=st.binary(max_size=100), context=st.text(max_size=20))
def test_values_come_back(keys: Keys, value: bytes, context: str):
    sealed = encrypt_value(keys, value, context, holder="a table")

    assert decrypt_value(keys, sealed, context) == value
    assert len(sealed) == len(value) + 132
    assert value_version(sealed) == 1
    with pytest.raises(OtherContext):
        decrypt_value(keys, sealed, f"{context}.")


def test_the_same_value_never_looks_the_same(keys: Keys):
    assert len({encrypt_value(keys, b"secret", "here", holder="a table") for _ in range(20)}) == 20


def test_a_value_that_is_too_long_is_refused(keys: Keys):
    with pytest.raises(KeysetError, match="1,048,577 bytes is too long"):
        encrypt_value(keys, bytes((1 << 20) + 1), "here", holder="a table")


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 1, 2_000_000])
def test_files_come_back(keys: Keys, tmp_path: Path, size: int):
    source, sealed, plain = tmp_path / "source", tmp_path / "sealed", tmp_path / "plain"
    source.write_bytes(b"marker" * (size // 6 + 1))

    encrypt_file(keys, source, sealed, "here")
    decrypt_file(keys, sealed, plain, "here")

    assert plain.read_bytes() == source.read_bytes() == read_encrypted(keys, sealed, "here")
    assert b"marker" not in sealed.read_bytes()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (sealed, plain)} == {0o600}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_is_replaced_as_a_whole_and_noted_once(keys: Keys, tmp_path: Path):
    target = tmp_path / "file"
    write_encrypted(keys, b"old", target, "here")
    write_encrypted(keys, b"new", target, "here")

    assert read_encrypted(keys, target, "here") == b"new"
    assert [(each.name, each.version) for each in keys.inventory.entries()] == [(str(target), 1)]


def test_a_source_that_breaks_off_leaves_what_was_there(keys: Keys, tmp_path: Path):
    target = tmp_path / "file"
    write_encrypted(keys, b"old", target, "here")

    with pytest.raises(IsADirectoryError):
        encrypt_file(keys, tmp_path, target, "here")
    (tmp_path / "no").mkdir()
    with pytest.raises(OSError):
        write_encrypted(keys, b"new", tmp_path / "no" / "folder" / "file", "here")

    assert read_encrypted(keys, target, "here") == b"old"
    assert [each.name for each in keys.inventory.entries()] == [str(target)]


@ONCE
@given(contents=st.lists(st.binary(max_size=200), max_size=8))
def test_logs_come_back(keys: Keys, tmp_path: Path, contents: list[bytes]):
    write_log(keys, tmp_path / "log", contents)

    assert read_log(keys, tmp_path / "log") == contents


def test_a_log_is_read_from_any_frame_on_and_up_to_what_is_whole(keys: Keys, tmp_path: Path):
    path = tmp_path / "log"
    write_log(keys, path, [b"one", b"two", bytes(40_000)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        reader = FrameReader.of(keys, file, "log", subject="the log")
        positions = list(reader.positions())
        assert [content for content, _ in reader.frames(positions[1])] == [b"two", bytes(40_000)]
        assert [reader.late_position(begin) for begin in (0, positions[1] - 1, positions[2], size)] == [
            positions[0],
            positions[1],
            positions[2],
            positions[2],
        ]

        for end in (size - 1, positions[2] + 3, positions[2]):
            file.truncate(end)
            assert [content for content, _ in reader.frames()] == [b"one", b"two"]


def test_frames_cannot_be_moved_repeated_or_taken_from_another_log(keys: Keys, tmp_path: Path):
    path, other = tmp_path / "log", tmp_path / "other"
    write_log(keys, path, [b"aaa", b"bbb", b"ccc"])
    write_log(keys, other, [b"aaa", b"bbb", b"ccc"])
    whole, length = path.read_bytes(), (path.stat().st_size - HEADER_BYTES) // 3
    header, frames = whole[:HEADER_BYTES], [whole[HEADER_BYTES + length * n :][:length] for n in range(3)]
    foreign = other.read_bytes()[HEADER_BYTES:][:length]

    for order in ([1, 0, 2], [0, 0, 1, 2], [0, 2], [1, 2]):
        path.write_bytes(header + b"".join(frames[n] for n in order))
        with pytest.raises(Corrupt, match="was changed at byte"):
            read_log(keys, path)
    path.write_bytes(header + foreign)
    with pytest.raises(Corrupt):
        read_log(keys, path)


def test_a_length_that_was_made_up_claims_no_memory(keys: Keys, tmp_path: Path):
    path = tmp_path / "log"
    sealer = write_log(keys, path, [])
    for length in (1, 71, 72):
        path.write_bytes(sealer.header + length.to_bytes(4, "big") + bytes(100))
        with pytest.raises(Corrupt):
            read_log(keys, path)
    # Not whole yet; and the zeros that a loss of power may leave.
    for rest in (b"\xff\xff\xff\xff" + bytes(100), bytes(5000)):
        path.write_bytes(sealer.header + sealer.frame(b"one", HEADER_BYTES) + rest)
        assert read_log(keys, path) == [b"one"]


def test_a_rewrap_changes_the_header_and_nothing_else(keys: Keys, tmp_path: Path):
    file, log = tmp_path / "file", tmp_path / "log"
    write_encrypted(keys, bytes(100_000), file, "here")
    write_log(keys, log, [b"one"])
    before = {path: path.read_bytes() for path in (file, log)}

    assert turn(keys) == 2

    for path, content in before.items():
        now = path.read_bytes()
        assert now[HEADER_BYTES:] == content[HEADER_BYTES:]
        assert [slot and slot.version for slot in parse_slots(now)] == [None, 2]
    retire(keys, 1, destroy=True)
    assert read_encrypted(open_keys(tmp_path), file, "here") == bytes(100_000)
    assert read_log(open_keys(tmp_path), log) == [b"one"]


def test_a_log_goes_on_while_it_is_rewrapped(keys: Keys, tmp_path: Path):
    path = tmp_path / "log"
    sealer = write_log(keys, path, [b"one"])

    turn(keys)
    with path.open("ab") as file:
        file.write(sealer.frame(b"two", file.tell()))
    turn(keys)

    assert read_log(keys, path) == [b"one", b"two"]


def test_a_version_is_not_retired_while_something_needs_it(keys: Keys, tmp_path: Path):
    write_encrypted(keys, b"text", tmp_path / "file", "here")
    sealed = encrypt_value(keys, b"value", "there", holder="a table")
    keys.file.change(lambda keyset: keyset.rotated())
    keys.file.change(lambda keyset: keyset.promoted())
    with pytest.raises(KeysetError, match=r"version 1 is needed by 2 of the inventory: .*file, a table"):
        retire(keys, 1)

    done = rewrap(keys)
    assert (done.moved, done.holders) == (1, ["a table"])
    with pytest.raises(KeysetError, match="needed by 1 of the inventory: a table"):
        retire(keys, 1)

    with encrypting_anew(keys, "a table"):
        again = encrypt_value(keys, decrypt_value(keys, sealed, "there"), "there", holder="a table")
    retire(keys, 1)
    assert decrypt_value(keys, again, "there") == b"value"
    with pytest.raises(KeyDisabled, match="version 1 of the keyset is disabled"):
        decrypt_value(keys, sealed, "there")


def test_a_version_that_is_promoted_over_while_values_are_encrypted_anew_is_not_forgotten(keys: Keys):
    encrypt_value(keys, b"value", "there", holder="a table")
    turn(keys)
    with encrypting_anew(keys, "a table"):
        again = encrypt_value(keys, b"value", "there", holder="a table")
        assert turn(keys) == 3

    retire(keys, 1, destroy=True)
    with pytest.raises(KeysetError, match="version 2 is needed by 1 of the inventory: a table"):
        retire(keys, 2)
    assert decrypt_value(keys, again, "there") == b"value"


def test_values_that_could_not_all_be_encrypted_anew_keep_their_version(keys: Keys):
    encrypt_value(keys, b"value", "there", holder="a table")
    turn(keys)
    with pytest.raises(OSError, match="away"), encrypting_anew(keys, "a table"):
        raise OSError("the warehouse is away")

    with pytest.raises(KeysetError, match="version 1 is needed by 1"):
        retire(keys, 1)


def test_a_file_at_its_place_stays_in_the_inventory_though_its_folder_could_not_be_synced(keys, tmp_path, monkeypatch):
    def fail(_: Path) -> None:
        raise OSError("stale file handle")

    monkeypatch.setattr(files, "sync_folder", fail)
    with pytest.raises(OSError, match="stale"):
        write_encrypted(keys, b"text", tmp_path / "file", "here")

    assert read_encrypted(keys, tmp_path / "file", "here") == b"text"
    assert [Path(each.name).name for each in keys.inventory.entries(version=1)] == ["file"]


def test_files_that_are_not_there_are_forgotten_only_when_asked(keys: Keys, tmp_path: Path):
    path = tmp_path / "file"
    write_encrypted(keys, b"text", path, "here")
    path.unlink()
    turn(keys)

    assert rewrap(keys).missing == [str(path)]
    with pytest.raises(KeysetError, match="is needed by 1"):
        retire(keys, 1)
    assert rewrap(keys, forget_missing=True).forgotten == 1
    retire(keys, 1)


def test_what_is_wrong_with_one_file_keeps_no_other_from_its_rewrap(keys: Keys, tmp_path: Path):
    for name in ("a", "b", "c"):
        write_encrypted(keys, b"text", tmp_path / name, "here")
    (tmp_path / "b").write_bytes(b"something else")
    keys.file.change(lambda keyset: keyset.rotated())
    keys.file.change(lambda keyset: keyset.promoted())

    done = rewrap(keys)

    assert done.moved == 2
    assert done.failed == {str(tmp_path / "b"): f"{tmp_path / 'b'} is not encrypted"}
    assert read_encrypted(keys, tmp_path / "c", "here") == b"text"


def test_a_file_in_the_making_keeps_its_version(keys: Keys, tmp_path: Path):
    held, goes_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def readinto(self, buffer: memoryview, /) -> int:
            held.set()
            assert goes_on.wait(10)
            return super().readinto(buffer)

    source, target = Slow(b"text"), tmp_path / "target"
    thread = threading.Thread(target=files._encrypt, args=(keys, source, target, "here"))
    thread.start()
    assert held.wait(10)
    assert turn(keys) == 2
    with pytest.raises(KeysetError, match="is needed by 1"):
        retire(keys, 1)
    goes_on.set()
    thread.join()

    assert rewrap(keys).moved == 1
    retire(keys, 1)
    assert read_encrypted(keys, target, "here") == b"text"


def test_a_lost_inventory_keeps_versions_and_is_made_anew_of_the_files(keys: Keys, tmp_path: Path):
    folder = tmp_path / "data" / "deep"
    folder.mkdir(parents=True)
    write_encrypted(keys, b"text", folder / "file", "here")
    write_log(keys, folder / "log", [b"one"])
    (folder / "other").write_text("no secret")
    turn(keys)
    write_encrypted(keys, b"text", folder / "newer", "here")
    keys.inventory.path.unlink()

    with pytest.raises(KeysetError, match=r"the inventory .* cannot be used"):
        retire(keys, 1)
    with pytest.raises(KeysetError, match="gone is not there, and what is encrypted in it would be forgotten"):
        rebuild(keys, [tmp_path / "data", tmp_path / "gone"])
    # Named twice, it is counted once.
    assert rebuild(keys, [tmp_path / "data", folder], ["a table"]) == 3
    assert sorted(Path(each.name).name for each in keys.inventory.entries(version=2)) == [
        *("a table", "file", "log", "newer")
    ]
    with pytest.raises(KeysetError, match="needed by 1 of the inventory: a table"):
        retire(keys, 1)
    with encrypting_anew(keys, "a table"):
        pass
    retire(keys, 1)


def test_the_inventory_of_another_keyset_proves_nothing(keys: Keys, tmp_path: Path):
    other = make_keys(tmp_path / "other")
    keys.inventory.path.write_bytes(other.inventory.path.read_bytes())
    turn_only = [lambda keyset: keyset.rotated(), lambda keyset: keyset.promoted()]
    for change in turn_only:
        keys.file.change(change)

    for action in (lambda: retire(keys, 1), lambda: rewrap(keys)):
        with pytest.raises(KeysetError, match="is the inventory of another keyset"):
            action()


def test_what_another_keyset_has_encrypted_is_refused(keys: Keys, tmp_path: Path):
    other = make_keys(tmp_path / "other")
    write_encrypted(other, b"text", tmp_path / "file", "here")

    with pytest.raises(WrongKey, match="was encrypted with the keyset"):
        read_encrypted(keys, tmp_path / "file", "here")


def test_an_older_keyset_does_not_know_a_newer_version(keys: Keys, tmp_path: Path):
    before = keys.file.path.read_bytes()
    turn(keys)
    write_encrypted(keys, b"text", tmp_path / "file", "here")
    keys.file.path.write_bytes(before)

    with pytest.raises(UnknownKeyVersion, match="has no version 2"):
        read_encrypted(keys, tmp_path / "file", "here")


def test_an_empty_file_is_truncated(keys: Keys, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(Truncated):
        read_encrypted(keys, tmp_path / "file", "here")
