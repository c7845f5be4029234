"""What `workbench doctor --security` takes for proof, and what it takes for a lack."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from hub.assurance import _database as hub_database
from hub.configuration import database_file
from pipelines import assurance
from tests.services.keysets import make_keys
from workbench.errors import KeysetError
from workbench.security.assurance import Kind, NotProtected, Row, Site, State, examine, not_in_use
from workbench.security.assurance.files import all_private, is_private
from workbench.security.assurance.site import Listener
from workbench.security.assurance.stores import addresses_store, audit_store, keys_store, logs_store, scratch_store
from workbench.security.at_rest import AtRest
from workbench.security.audit import Action, AuditLog
from workbench.security.audit.proof.checkpointer import Checkpointer
from workbench.security.encryption.files import write_encrypted
from workbench.security.secrets import private_folder, write_private
from workbench.settings import Settings


def open_to_all(*, promised: bool) -> str:
    raise NotProtected("everybody", remedy="close it", promised=promised)


def cannot_be_read() -> str:
    raise KeysetError("no keyset", remedy="restore it")


def is_away() -> str:
    raise ConnectionRefusedError("nobody there")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    home = private_folder(tmp_path / "home")
    monkeypatch.setenv("WORKBENCH_HOME", str(home))
    return Site.of(Settings.load(), None)


def test_a_row_is_protected_when_all_was_proved():
    row = examine(Kind.HOP, "kafka", lambda: "TLS", lambda: "")

    assert (row.state, row.proved, row.is_broken) == (State.PROTECTED, ("TLS",), False)


@pytest.mark.parametrize(
    ("check", "is_broken", "why"),
    [
        (partial(open_to_all, promised=True), True, "everybody"),
        (partial(open_to_all, promised=False), False, "everybody"),
        (cannot_be_read, True, "no keyset"),
        (is_away, True, "nobody there"),
    ],
)
def test_what_is_open_or_cannot_be_looked_at_is_not_protected_and_has_a_remedy(check, is_broken, why):
    row = examine(Kind.STORE, "x", lambda: "mode 0600", check)

    assert (row.state, row.is_broken, row.proved) == (State.NOT_PROTECTED, is_broken, ("mode 0600",))
    assert why in row.lacks[0].why
    assert row.lacks[0].remedy
    assert row.as_fields()["lacks"][0]["promised"] is is_broken


def test_what_is_not_there_is_not_in_use_and_no_fault():
    row = not_in_use(Kind.HOP, "schema registry", "not set")

    assert (row.state, row.is_broken) == (State.NOT_IN_USE, False)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o700 | 0o010])
def test_a_file_that_others_may_read_is_named(tmp_path, mode):
    folder = private_folder(tmp_path / "keys")
    write_private(folder / "root.key", "secret")
    assert "0600" in all_private(folder)
    (folder / "root.key").chmod(mode)

    with pytest.raises(NotProtected, match=r"root\.key"):
        all_private(folder)
    with pytest.raises(NotProtected, match="chmod"):
        raise_with_remedy(folder / "root.key")


def raise_with_remedy(path: Path) -> None:
    try:
        is_private(path)
    except NotProtected as error:
        raise NotProtected(error.remedy, remedy="") from None


@pytest.mark.parametrize(
    ("address", "is_safe"), [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False)]
)
def test_a_port_is_on_loopback_or_it_is_told(site, address, is_safe):
    listener = Listener(port=9, address=address, pid=os.getpid(), command=("kafka",))
    found = Site(settings=site.settings, pid=os.getpid(), listeners=(listener,))

    assert found.others() == (listener,)
    row = examine(Kind.HOP, "kafka", lambda: found.stays_here(9))
    assert row.is_broken is not is_safe
    assert found.others() == ()


def test_a_port_that_another_program_has_taken_is_told(site):
    with pytest.raises(NotProtected, match="no process of this workbench"):
        site.stays_here(9)


def test_keys_are_private_and_the_root_key_beside_them_is_told(site):
    assert keys_store(site).state is State.NOT_IN_USE
    write_private(private_folder(site.home / "keys") / "kafka-password", "x")

    row = keys_store(site)
    assert not row.is_broken
    assert [each.promised for each in row.lacks] == [False]

    (site.home / "keys" / "kafka-password").chmod(0o644)
    assert keys_store(site).is_broken


def test_an_audit_log_that_was_changed_is_told(site):
    log = AuditLog.of(site.home)
    log.record(Action.LOGIN_SUCCEEDED, actor="gh-ada", resource="hub")
    log.record(Action.LOGOUT, actor="gh-ada", resource="hub")
    Checkpointer.of(site.home).tick(is_forced=True)
    assert not audit_store(site).is_broken

    log.path.write_bytes(log.path.read_bytes().replace(b"gh-ada", b"gh-bob", 1))

    row = audit_store(site)
    assert row.is_broken
    assert "not as it was written" in row.lacks[0].why


def test_what_only_the_disk_encrypts_says_whether_it_does(site, monkeypatch):
    AuditLog.of(site.home).record(Action.LOGOUT, actor="gh-ada", resource="hub")
    for folder in ("logs", "run"):
        private_folder(site.home / folder)
    database = database_file(site.settings)
    private_folder(database.parent)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.executescript("CREATE TABLE users (encrypted_auth_state); CREATE TABLE api_tokens (hashed);")

    def told(encrypted: Literal["yes", "no"]) -> set[str]:
        found = AtRest(encrypted=encrypted, detail="as the test says")
        monkeypatch.setattr("workbench.security.assurance.files.encryption_at_rest", lambda _: found)
        rows = [addresses_store(site), audit_store(site), logs_store(site), hub_database(site)]
        assert not any(row.is_broken for row in rows)
        return {
            row.subject for row in rows if "in clear on its disk: as the test says" in [lack.why for lack in row.lacks]
        }

    assert told("yes") == set()
    assert told("no") == {"addresses and tokens", "audit log", "logs", "hub database"}


def test_a_spark_server_without_encryption_of_spills_is_told(site):
    private_folder(site.home / "spark" / "scratch")
    (site.home / "spark").chmod(0o700)
    properties = site.home / "spark" / "spark.properties"
    write_private(properties, "spark.io.encryption.enabled true\nspark.io.encryption.keySizeBits 256\n")
    assert "256 bits" in scratch_store(site).proved[-1]

    write_private(properties, "spark.io.encryption.enabled false\n")
    assert scratch_store(site).is_broken


def test_an_output_that_only_says_that_it_is_encrypted_is_found(site):
    def outputs() -> Row:
        return next(row for row in assurance.rows(site) if row.subject == "run outputs")

    assert outputs().state is State.NOT_IN_USE
    attempt = private_folder(site.home / "pipelines" / "runs" / "7" / "load.1-1")
    (site.home / "pipelines" / "runs").chmod(0o700)
    write_encrypted(make_keys(site.home), b"{}", attempt / "output.ipynb.enc", "7/load.1-1/output.ipynb.enc")
    assert outputs().state is State.PROTECTED

    write_private(attempt / "log.jsonl.enc", '{"in": "clear"}')
    assert outputs().is_broken
    (attempt / "log.jsonl.enc").unlink()

    write_private(attempt / "log.jsonl", '{"of": "before"}')
    assert (outputs().state, outputs().is_broken) == (State.NOT_PROTECTED, False)
