"""References to secrets: what is one, where each kind is read, and that no error shows a secret."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from tests.services.keysets import make_keys, open_keys, turn
from workbench.cli.main import make_application
from workbench.errors import OtherContext, SecretUnavailable, SettingsError
from workbench.references import SecretReference
from workbench.resolving import References
from workbench.security.audit import AuditLog, read_events
from workbench.security.kept_secrets import KeptSecrets
from workbench.security.references import references_of
from workbench.settings import Settings

CANARY = "canary-4711-of-the-test"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def kept(home: Path) -> KeptSecrets:
    return KeptSecrets.of(home, make_keys(home))


def secrets(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(make_application(), ["secrets", *arguments], input=given)


@pytest.mark.parametrize(
    "text", ["env:TOKEN", "file:/run/secrets/token", "keyset:api-token", "vault:secret/team/api#token"]
)
def test_a_reference_is_read_and_written_alike(text):
    assert str(SecretReference.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", CANARY, "env:", "env:A B", "file:relative", "keyset:../x", "keyset:", "keyset:a/b", "vault:a", "vault:a#b",
     "vault:secret/a", "vault:secret/../sys/key#f", "vault:secret/a?x#b", "http://x", "env:A\n"],
)  # fmt: skip
def test_what_is_no_reference_is_refused_and_not_shown(text):
    with pytest.raises(ValueError, match="no reference") as error:
        SecretReference.parse(text)
    assert CANARY not in str(error.value)


def test_variables_and_files_are_read_when_they_are_needed(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{CANARY}\n")
    references = References({"TOKEN": CANARY})

    assert references.read(SecretReference("env", "TOKEN")).get_secret_value() == CANARY
    assert references.read(SecretReference("file", str(file))).get_secret_value() == CANARY
    assert CANARY not in repr(references)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(SecretUnavailable, match="is no file"):
            References().read(SecretReference("file", str(path)))


def test_keys_of_the_workbench_are_no_secrets_to_refer_to(home, tmp_path):
    (home / "keys").mkdir(parents=True)
    (home / "keys" / "root.key").write_text(CANARY)
    (tmp_path / "link").symlink_to(home / "keys" / "root.key")
    references = references_of(Settings.load(), {})

    for path in (home / "keys" / "root.key", home / "logs" / ".." / "keys" / "root.key", tmp_path / "link"):
        with pytest.raises(SecretUnavailable, match="a key of the workbench itself") as error:
            references.read(SecretReference("file", str(path)))
        assert CANARY not in str(error.value)


def test_a_key_is_refused_that_is_put_at_the_path_while_it_is_read(home, tmp_path, monkeypatch):
    (home / "keys").mkdir(parents=True)
    (home / "keys" / "root.key").write_text(CANARY)
    references, path = references_of(Settings.load(), {}), tmp_path / "mine"
    path.write_text("mine")
    really = os.open

    def exchanged(opened, *arguments, **named):
        if opened == path:
            path.unlink()
            path.symlink_to(home / "keys" / "root.key")
        return really(opened, *arguments, **named)

    monkeypatch.setattr(os, "open", exchanged)
    with pytest.raises(SecretUnavailable, match="a key of the workbench itself"):
        references.read(SecretReference("file", str(path)))


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/{}/environ", "{}/link"])
def test_variables_of_processes_are_no_files_to_refer_to(tmp_path, path):
    (tmp_path / "link").symlink_to("/proc/self/environ")

    with pytest.raises(SecretUnavailable, match="is of a process"):
        References().read(SecretReference("file", path.format(tmp_path if "link" in path else os.getpid())))


@pytest.mark.parametrize("reference", ["env:NO", "file:/no/such", "keyset:no", "vault:secret/no#no"])
def test_what_is_not_there_is_an_error_with_a_remedy(home, reference):
    references = references_of(Settings.load(), {"YES": CANARY})

    with pytest.raises(SecretUnavailable, match=f"the secret {reference} is not there") as error:
        references.read(SecretReference.parse(reference), remedy="put it there")
    assert error.value.remedy
    assert CANARY not in str(error.value)


def test_what_leads_to_the_root_key_cannot_be_referred_to(home):
    references = references_of(Settings.load(), {"WORKBENCH_KEYS_ROOT_KEY": CANARY})

    with pytest.raises(SecretUnavailable):
        references.read(SecretReference("env", "WORKBENCH_KEYS_ROOT_KEY"))


def test_a_secret_is_kept_encrypted_and_read_by_its_reference(home):
    assert secrets("set", "api-token", given=f"{CANARY}\n").exit_code == 0

    file = home / "keys" / "secrets.json"
    assert file.stat().st_mode & 0o777 == 0o600
    for each in home.rglob("*"):
        assert not each.is_file() or CANARY.encode() not in each.read_bytes(), each
    found = references_of(Settings.load(), {}).read(SecretReference("keyset", "api-token"))
    assert found.get_secret_value() == CANARY


def test_secrets_are_listed_replaced_and_removed_and_never_shown(home):
    answers = [
        secrets("set", "a", "--json", given="first-one"),
        secrets("set", "a", "--json", given=CANARY),
        secrets("list", "--json"),
        secrets("list"),
        secrets("remove", "a", "--json"),
        secrets("list", "--json"),
    ]

    assert [each.exit_code for each in answers] == [0] * 6
    assert json.loads(answers[0].stdout) == {"name": "a", "new": True}
    assert json.loads(answers[1].stdout) == {"name": "a", "new": False}
    assert json.loads(answers[2].stdout) == [{"name": "a", "version": 1}]
    assert json.loads(answers[5].stdout) == []
    assert CANARY not in "".join(each.output for each in answers)
    told = [each for each in read_events(AuditLog.of(home).path) if each.resource == "secret:a"]
    assert [each.action for each in told if each.outcome == "success"] == ["secret.set", "secret.set", "secret.removed"]
    assert CANARY not in AuditLog.of(home).path.read_text()


@pytest.mark.parametrize(("name", "given"), [("../x", CANARY), ("a", ""), ("a", "\n"), ("a", "x" * 70_000)])
def test_a_name_or_a_secret_that_is_none_is_refused(home, name, given):
    assert isinstance(secrets("set", name, given=given).exception, SettingsError)


def test_a_secret_that_was_exchanged_for_another_is_refused(kept):
    kept.set("mine", SecretStr("one"))
    kept.set("theirs", SecretStr(CANARY))
    found = json.loads(kept.path.read_text())
    kept.path.write_text(json.dumps({"mine": found["theirs"], "theirs": found["mine"]}))

    with pytest.raises(OtherContext):
        kept.read("mine")


def test_secrets_come_under_a_new_version_with_rewrap(home, kept):
    kept.set("a", SecretStr(CANARY))
    turn(open_keys(home))
    assert kept.names() == {"a": 1}

    done = CliRunner().invoke(make_application(), ["keys", "rewrap", "--json"])

    assert json.loads(done.stdout)["holders"] == []
    assert kept.names() == {"a": 2}
    assert kept.read("a").get_secret_value() == CANARY
    retired = CliRunner().invoke(make_application(), ["keys", "retire", "1", "--destroy"])
    assert retired.exit_code == 0, retired.exception
    assert kept.read("a").get_secret_value() == CANARY


def test_a_loop_of_links_is_told(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    with pytest.raises(SecretUnavailable, match="cannot be read: Too many levels"):
        References().read(SecretReference("file", str(tmp_path / "loop")))
