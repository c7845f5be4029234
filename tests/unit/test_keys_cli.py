from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from tests.services.keysets import open_keys
from workbench.cli import doctor
from workbench.cli.main import make_application
from workbench.errors import KeysetError
from workbench.security.audit import AuditLog, read_events
from workbench.security.encryption.files import read_encrypted, write_encrypted
from workbench.security.encryption.values import encrypt_value
from workbench.security.kept_secrets import KeptSecrets
from workbench.security.keyset.file import KeysetFile
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import locked, write_private
from workbench.warehouse.backup.repository import Repository


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(make_application(), ["keys", *arguments])


def answer(*arguments: str) -> Any:
    return json.loads(keys(*arguments, "--json").stdout)


def test_a_key_from_its_beginning_to_its_end(home: Path):
    assert answer("init") == {"keyset": str(home / "keys" / "keyset.json"), "root": "file", "primary": 1}
    write_encrypted(open_keys(home), b"text", home / "file", "here")
    assert answer("rotate") == {"pending": 2}
    assert answer("promote") == {"primary": 2}
    refused = keys("retire", "1")
    assert isinstance(refused.exception, KeysetError)
    assert "needed by 1" in refused.exception.message
    assert answer("rewrap") == {
        "version": 2,
        "moved": 1,
        "forgotten": 0,
        "being_written": 0,
        "missing": [],
        "holders": [],
        "failed": {},
    }
    assert answer("retire", "1") == {"version": 1, "state": "disabled"}
    assert answer("retire", "1", "--undo") == {"version": 1, "state": "decrypt-only"}
    assert answer("retire", "1", "--destroy") == {"version": 1, "state": "destroyed"}

    listed = answer("list")["versions"]
    assert [(each["version"], each["state"], each["needed_by"]) for each in listed] == [
        (1, "destroyed", 0),
        (2, "primary", 1),
    ]
    told = [
        each for each in read_events(AuditLog.of(home).path) if each.resource == "keyset" and each.outcome != "begun"
    ]
    assert [(each.action.removeprefix("keyset."), each.outcome, each.details.get("version")) for each in told] == [
        ("created", "success", "1"),
        ("rotated", "success", "2"),
        ("promoted", "success", "2"),
        ("retired", "failed", "1"),
        ("rewrapped", "success", "2"),
        ("retired", "success", "1"),
        ("enabled", "success", "1"),
        ("destroyed", "success", "1"),
    ]


def test_a_rewrap_that_leaves_something_says_what_and_exits_with_1(home: Path):
    keys("init")
    write_encrypted(open_keys(home), b"text", home / "gone", "here")
    encrypt_value(open_keys(home), b"value", "there", holder="a table")
    (home / "gone").unlink()
    keys("rotate")
    keys("promote")

    done = keys("rewrap")

    assert done.exit_code == 1
    assert "gone is not there. If it is gone for good, say --forget-missing." in done.stdout
    assert "a table holds values of an older version" in done.stdout


def test_a_lost_inventory_is_made_anew_with_backups_and_holders(home: Path, monkeypatch: pytest.MonkeyPatch):
    keys("init")
    write_encrypted(open_keys(home), b"text", home / "file", "here")
    KeptSecrets.of(home, open_keys(home)).set("name", SecretStr("a secret of the test"))
    backups, elsewhere = home.parent / "backups", home.parent / "elsewhere"
    for folder in (backups, elsewhere):
        folder.mkdir()
        write_encrypted(open_keys(home), b"text", folder / "file", "here")
    monkeypatch.setenv("WORKBENCH_BACKUP_FOLDER", str(backups))
    (home / "keys" / "inventory.db").unlink()
    assert isinstance(keys("list").exception, KeysetError)

    assert keys("rewrap", "--rebuild", str(elsewhere)).exit_code == 0
    # Three files, and who keeps secrets.
    assert answer("list")["versions"][0]["needed_by"] == 4


def test_a_backup_can_be_restored_with_the_copy_of_the_keyset_beside_it_whenever_the_home_is_lost(home: Path):
    keys("init")
    mine = open_keys(home)
    repository = Repository(home.parent / "backups" / "0123")
    repository.refresh_keyset(mine)
    path = repository.folder / "wal" / "segment.enc"
    path.parent.mkdir()
    write_encrypted(mine, b"text", path, "here")

    def with_the_copy() -> bytes:
        return read_encrypted(Keys(KeysetFile(repository.keyset, mine.file.root), mine.inventory), path, "here")

    keys("rotate")
    keys("promote")
    # What is written from here on needs version 2.
    write_encrypted(mine, b"text", path.with_name("next.enc"), "here")
    assert KeysetFile(repository.keyset, mine.file.root).read().version(2)
    assert answer("rewrap")["moved"] == 1
    assert with_the_copy() == b"text"


def test_nobody_changes_the_keyset_while_its_copy_is_written(home: Path, monkeypatch: pytest.MonkeyPatch):
    keys("init")
    mine = open_keys(home)
    may_change: list[bool] = []

    def write(path: Path, content: str | bytes) -> None:
        with locked(mine.file.path.with_suffix(".lock"), waits=False) as is_alone:
            may_change.append(is_alone)
        write_private(path, content)

    monkeypatch.setattr("workbench.warehouse.backup.repository.write_private", write)
    repository = Repository(home.parent / "backups" / "0123")

    repository.refresh_keyset(mine)

    assert may_change == [False]
    assert repository.keyset.read_bytes() == mine.file.path.read_bytes()


def test_a_backup_whose_keyset_is_another_by_now_is_not_moved_to_ours(home: Path):
    keys("init")
    mine = open_keys(home)
    repository = Repository(home.parent / "backups" / "0123")
    repository.refresh_keyset(mine)
    path = repository.folder / "file.enc"
    write_encrypted(mine, b"text", path, "here")
    # As in a home that was restored from it, and has rotated its keys.
    other = Keys(KeysetFile(repository.keyset, mine.file.root), mine.inventory)
    other.file.change(lambda keyset: keyset.rotated())
    before = path.read_bytes()

    keys("rotate")
    refused = keys("promote")
    assert isinstance(refused.exception, KeysetError)
    assert "has a version 2 that is not that of" in refused.exception.message
    mine.file.change(lambda keyset: keyset.promoted())
    assert list(answer("rewrap")["failed"]) == [str(path)]
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", ["list", "rotate", "promote", "rewrap"])
def test_without_a_keyset_each_command_says_how_to_make_one(home: Path, command: str):
    found = keys(command).exception

    assert isinstance(found, KeysetError)
    assert "workbench keys init" in found.remedy


@pytest.mark.parametrize("command", ["init", "list", "rotate", "promote", "rewrap", "retire"])
def test_every_command_has_an_example(command: str):
    assert f"Example: workbench keys {command}" in keys(command, "--help").stdout


def test_doctor_says_whether_what_is_encrypted_can_be_read(home: Path):
    assert doctor._keys() == "no keyset yet; the worker of pipelines makes one"
    keys("init")
    write_encrypted(open_keys(home), b"text", home / "file", "here")
    assert doctor._keys() == "version 1 encrypts, root key file, 1 in the inventory"

    (home / "keys" / "keyset.json").unlink()
    with pytest.raises(KeysetError, match="cannot be read"):
        doctor._keys()
