from __future__ import annotations

import json
import stat
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import SecretStr

from tests.services.keysets import make_keys, open_keys
from workbench.errors import (
    KeyDisabled,
    KeysetError,
    RootKeyUnavailable,
    UnknownKeyVersion,
    UnsupportedFormat,
    WrongKey,
)
from workbench.sections import KeysSettings, variables, without_keys
from workbench.security.keyset.document import read_document, write_document
from workbench.security.keyset.file import KeysetFile
from workbench.security.keyset.opening import Keys
from workbench.security.keyset.roots import FileRoot, VariableRoot
from workbench.security.keyset.versions import Keyset, KeyState, KeyVersion

ROOT = VariableRoot(SecretStr("01" * 32))
OTHER_ROOT = VariableRoot(SecretStr("02" * 32))
TIMES = st.datetimes(timezones=st.just(UTC))
VERSIONS = st.builds(
    KeyVersion,
    number=st.integers(1, 2**32 - 1),
    state=st.sampled_from(KeyState),
    created=TIMES,
    changed=TIMES,
    key=st.binary(min_size=32, max_size=32),
)
KEYSETS = st.builds(
    Keyset,
    id=st.binary(min_size=16, max_size=16),
    inventory=st.text(max_size=40),
    versions=st.lists(VERSIONS, max_size=5).map(tuple),
)


class KeysetMachine(RuleBasedStateMachine):
    """Whatever is asked for in whatever order, what was encrypted can be read until somebody retires its version."""

    @initialize()
    def begin(self) -> None:
        self.keyset = Keyset.new()
        self.keys = {1: self.keyset.primary.key}
        self.retired: set[int] = set()

    @rule()
    def rotate(self) -> None:
        pending = [each for each in self.keyset.versions if each.state is KeyState.PENDING]
        if pending:
            with pytest.raises(KeysetError, match="pending already"):
                self.keyset.rotated()
            return
        self.keyset = self.keyset.rotated()
        self.keys[len(self.keyset.versions)] = self.keyset.versions[-1].key

    @rule()
    def promote(self) -> None:
        pending = [each.number for each in self.keyset.versions if each.state is KeyState.PENDING]
        if not pending:
            with pytest.raises(KeysetError, match="no version is pending"):
                self.keyset.promoted()
            return
        before = self.keyset.primary.number
        self.keyset = self.keyset.promoted()
        assert self.keyset.primary.number == pending[0]
        assert self.keyset.version(before).state is KeyState.DECRYPT_ONLY

    @rule(data=st.data(), destroy=st.booleans())
    def retire(self, data: st.DataObject, destroy: bool) -> None:
        number = data.draw(st.integers(1, len(self.keyset.versions)))
        state = self.keyset.version(number).state
        if state in {KeyState.PRIMARY, KeyState.DESTROYED} or (state is KeyState.DISABLED and not destroy):
            with pytest.raises(KeysetError):
                self.keyset.retired(number, destroy=destroy)
            return
        self.keyset = self.keyset.retired(number, destroy=destroy)
        self.retired.add(number)

    @precondition(lambda self: self.retired)
    @rule(data=st.data())
    def enable(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.retired)))
        if self.keyset.version(number).state is KeyState.DISABLED:
            self.keyset = self.keyset.enabled(number)
            self.retired.remove(number)
        else:
            with pytest.raises(KeysetError):
                self.keyset.enabled(number)

    @invariant()
    def reads(self) -> None:
        for number, key in self.keys.items():
            if number in self.retired:
                with pytest.raises(KeyDisabled):
                    self.keyset.reading_key(number)
            else:
                assert self.keyset.reading_key(number) == key

    @invariant()
    def states(self) -> None:
        states = [each.state for each in self.keyset.versions]
        assert states.count(KeyState.PRIMARY) == 1
        assert states.count(KeyState.PENDING) <= 1
        assert all(bool(each.key) is (each.state is not KeyState.DESTROYED) for each in self.keyset.versions)


TestKeyset = KeysetMachine.TestCase


@given(keyset=KEYSETS)
def test_a_document_comes_back(keyset: Keyset):
    assert read_document(write_document(keyset, ROOT), ROOT, subject="it") == keyset


def test_a_document_and_a_repr_hold_no_key_in_clear():
    keyset = Keyset.new()

    text = write_document(keyset, ROOT).decode() + repr(keyset) + repr(ROOT)

    assert keyset.primary.key.hex() not in text
    assert "01" * 32 not in text
    assert repr(keyset.primary.key) not in text


def test_another_root_key_does_not_open_it():
    with pytest.raises(WrongKey, match="is not the one that the keyset was written with"):
        read_document(write_document(Keyset.new(), ROOT), OTHER_ROOT, subject="it")


def test_a_document_of_another_kind_of_root_says_which(tmp_path: Path):
    with pytest.raises(KeysetError, match="protected by the root key environment, and the settings name file"):
        read_document(write_document(Keyset.new(), ROOT), FileRoot(tmp_path / "root.key"), subject="it")


@pytest.mark.parametrize("name", ["keyset", "root", "wrapped", "sealed"])
def test_a_document_that_was_changed_is_refused(name: str):
    ours, others = (json.loads(write_document(Keyset.new(), ROOT)) for _ in range(2))
    fields = {**ours, name: others[name] if name != "root" else "file"}

    with pytest.raises((WrongKey, KeysetError)):
        read_document(json.dumps(fields).encode(), ROOT, subject="it")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"format": "1"}', b"[" * 100_000, b" " * 2_000_000], ids=range(7)
)
def test_what_is_no_document_is_refused(content: bytes):
    with pytest.raises(KeysetError, match="it is no keyset, or is damaged"):
        read_document(content, ROOT, subject="it")


def test_a_newer_format_is_unsupported():
    fields = json.loads(write_document(Keyset.new(), ROOT)) | {"format": 2}

    with pytest.raises(UnsupportedFormat, match="it has format 2; this version reads 1"):
        read_document(json.dumps(fields).encode(), ROOT, subject="it")


def test_all_files_are_private(tmp_path: Path):
    make_keys(tmp_path)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}

    assert modes.pop("keyset.json") == 0o600
    assert modes.keys() == {"keyset.lock", "inventory.db", "root.key"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("name", ["keyset.json", "root.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, name: str, mode: int):
    make_keys(tmp_path)
    (tmp_path / "keys" / name).chmod(mode)

    with pytest.raises(KeysetError, match="others may read") as caught:
        open_keys(tmp_path).file.read()

    assert f"chmod 600 {tmp_path / 'keys' / name}" in caught.value.remedy


def test_a_keyset_is_not_made_twice(tmp_path: Path):
    keys = make_keys(tmp_path)
    before = keys.file.path.read_bytes()

    with pytest.raises(KeysetError, match="exists"):
        open_keys(tmp_path).create()

    assert keys.file.path.read_bytes() == before


def test_a_lost_keyset_is_not_replaced_while_the_inventory_names_something(tmp_path: Path):
    keys = make_keys(tmp_path)
    keys.inventory.hold("a table", 1)
    keys.file.path.unlink()

    with pytest.raises(KeysetError, match="names 1 encrypted with it"):
        open_keys(tmp_path).create()


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(KeysetError, match=r"keys/keyset\.json cannot be read: No such file") as caught:
        open_keys(tmp_path).file.read()
    assert "workbench keys init" in caught.value.remedy

    make_keys(tmp_path)
    (tmp_path / "keys" / "root.key").unlink()
    with pytest.raises(RootKeyUnavailable, match=r"root\.key cannot be read"):
        open_keys(tmp_path).file.read()


def test_a_reader_sees_a_rotation_without_a_restart(tmp_path: Path):
    make_keys(tmp_path)
    reader, other = open_keys(tmp_path).file, open_keys(tmp_path).file
    assert len(reader.read().versions) == 1

    rotated = other.change(lambda keyset: keyset.rotated())

    assert reader.reading_key(2) == rotated.versions[1].key
    with pytest.raises(UnknownKeyVersion, match="no version 3; it has 1 to 2"):
        reader.reading_key(3)


def test_a_change_that_is_refused_writes_nothing(tmp_path: Path):
    file = make_keys(tmp_path).file
    before = file.path.read_bytes()

    with pytest.raises(KeysetError):
        file.change(lambda keyset: keyset.promoted())

    assert file.path.read_bytes() == before


def test_a_root_key_in_the_environment(tmp_path: Path):
    settings = KeysSettings(WORKBENCH_KEYS_ROOT="environment", WORKBENCH_KEYS_ROOT_KEY="ab" * 32)
    keys = Keys.of(tmp_path, settings)

    created = keys.create()

    assert Keys.of(tmp_path, settings).file.read() == created
    assert not (tmp_path / "keys" / "root.key").exists()
    assert "abab" not in repr(settings)


@pytest.mark.parametrize("value", ["", "ab", "zz" * 32, "ab" * 31])
def test_what_is_no_root_key_is_refused(tmp_path: Path, value: str):
    with pytest.raises(RootKeyUnavailable, match="holds no root key"):
        KeysetFile(tmp_path / "keyset.json", VariableRoot(SecretStr(value))).create(lambda _: None)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ROOT": "environment"}, "WORKBENCH_KEYS_ROOT_KEY is not set"),
        ({"ROOT_KEY": "ab" * 32}, "WORKBENCH_KEYS_ROOT is not `environment`"),
        ({"ROOT": "aws-kms"}, "WORKBENCH_KEYS_KMS_KEY is not set"),
        ({"ROOT": "vault", "VAULT_TOKEN_FILE": "t", "VAULT_ADDRESS": "vault:8200"}, "is no address"),
        ({"ROOT": "vault", "VAULT_TOKEN_FILE": "t", "VAULT_ADDRESS": "http://vault:8200"}, "keys in clear"),
        ({"ROOT": "vault", "VAULT_ADDRESS": "https://vault:8200"}, "WORKBENCH_KEYS_VAULT_TOKEN_FILE is not set"),
    ],
)
def test_contradictory_settings(variables: dict[str, str], message: str):
    found = KeysSettings(**{f"WORKBENCH_KEYS_{name}": value for name, value in variables.items()}).problems()

    assert len(found) == 1
    assert message in found[0]


def test_settings_that_fit_have_no_problems():
    vault = {"ROOT": "vault", "VAULT_ADDRESS": "http://127.0.0.1:8200", "VAULT_TOKEN_FILE": "t"}

    assert KeysSettings().problems() == []
    assert KeysSettings(**{f"WORKBENCH_KEYS_{name}": value for name, value in vault.items()}).problems() == []


def test_what_runs_other_peoples_code_is_not_told_of_the_root_key():
    environment = {name: "x" for name, section in variables().items() if section is KeysSettings}

    assert without_keys({**environment, "DW_HOST": "y", "PATH": "z"}) == {"DW_HOST": "y", "PATH": "z"}
    assert "WORKBENCH_KEYS_ROOT_KEY" in environment
