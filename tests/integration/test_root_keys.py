"""Root keys that services keep."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.key_services import TOKEN, KeyService, running_key_service
from workbench.errors import KeysetError, RootKeyUnavailable, WrongKey
from workbench.sections import KeysSettings
from workbench.security.keyset.opening import Keys


@pytest.fixture
def service() -> Iterator[KeyService]:
    with running_key_service() as running:
        yield running


@pytest.fixture
def vault(service: KeyService, tmp_path: Path) -> KeysSettings:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(f"{TOKEN}\n")
    return KeysSettings(
        WORKBENCH_KEYS_ROOT="vault",
        WORKBENCH_KEYS_VAULT_ADDRESS=service.address,
        WORKBENCH_KEYS_VAULT_TOKEN_FILE=token,
    )


@pytest.fixture
def kms(service: KeyService, monkeypatch: pytest.MonkeyPatch) -> KeysSettings:
    for name, value in {
        "ENDPOINT_URL_KMS": service.address,
        "ACCESS_KEY_ID": "AKIAOFTHETEST",
        "SECRET_ACCESS_KEY": "of the test",
        "DEFAULT_REGION": "eu-central-1",
        "MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return KeysSettings(WORKBENCH_KEYS_ROOT="aws-kms", WORKBENCH_KEYS_KMS_KEY="alias/workbench")


@pytest.mark.parametrize("kind", ["vault", "kms"])
def test_the_root_key_is_asked_once_a_change_and_no_version_leaves_the_machine(
    kind: str, service: KeyService, tmp_path: Path, request: pytest.FixtureRequest
):
    settings: KeysSettings = request.getfixturevalue(kind)
    keys = Keys.of(tmp_path / "home", settings)
    created = keys.create()
    other = Keys.of(tmp_path / "home", settings)

    for _ in range(5):
        assert other.file.read() == created
    keys.file.change(lambda keyset: keyset.rotated())
    assert len(other.file.read().versions) == 2

    # Two wraps, and one unwrap for each that reads and each content of the file.
    assert len(service.asked) == 5
    assert not (tmp_path / "home" / "keys" / "root.key").exists()


@pytest.mark.parametrize("kind", ["vault", "kms"])
def test_another_key_of_the_service_does_not_unwrap(
    kind: str, service: KeyService, tmp_path: Path, request: pytest.FixtureRequest
):
    settings: KeysSettings = request.getfixturevalue(kind)
    Keys.of(tmp_path / "home", settings).create()
    service.key = os.urandom(32)

    with pytest.raises(WrongKey, match="does not unwrap the keyset"):
        Keys.of(tmp_path / "home", settings).file.read()


def test_vault_that_refuses_or_is_sealed_says_so(service: KeyService, vault: KeysSettings, tmp_path: Path):
    service.is_sealed = True
    with pytest.raises(RootKeyUnavailable, match="503 Vault is sealed"):
        Keys.of(tmp_path / "home", vault).create()
    service.is_sealed = False
    assert vault.vault_token_file is not None
    vault.vault_token_file.write_text("another")
    with pytest.raises(RootKeyUnavailable, match="permission denied") as caught:
        Keys.of(tmp_path / "home", vault).create()

    assert "another" not in str(caught.value)
    assert not (tmp_path / "home" / "keys" / "keyset.json").exists()


def test_a_token_that_others_may_read_is_refused(vault: KeysSettings, tmp_path: Path):
    assert vault.vault_token_file is not None
    vault.vault_token_file.chmod(0o644)

    with pytest.raises(KeysetError, match="others may read the token for Vault"):
        Keys.of(tmp_path / "home", vault)


def test_a_service_that_does_not_answer_is_named(vault: KeysSettings, kms: KeysSettings, tmp_path: Path):
    with running_key_service() as gone:
        address = gone.address
    closed = vault.model_copy(update={"vault_address": address})
    os.environ["AWS_ENDPOINT_URL_KMS"] = address  # put back by the fixture

    with pytest.raises(
        RootKeyUnavailable, match=f"Vault at {address} does not give the use of vault:transit/workbench"
    ):
        Keys.of(tmp_path / "home", closed).create()
    with pytest.raises(RootKeyUnavailable, match="AWS KMS does not give the use of aws-kms:alias/workbench"):
        Keys.of(tmp_path / "home", kms).create()


@pytest.mark.parametrize(("kind", "package"), [("vault", "httpx2"), ("kms", "boto3")])
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    kind: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    settings: KeysSettings = request.getfixturevalue(kind)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(RootKeyUnavailable, match=f"{package} is not installed") as caught:
        Keys.of(tmp_path / "home", settings).create()

    assert "Install analytics-workbench[" in caught.value.remedy


def test_kms_that_has_no_such_key_says_so(kms: KeysSettings, tmp_path: Path):
    with pytest.raises(RootKeyUnavailable, match="Alias is not found"):
        Keys.of(tmp_path / "home", kms.model_copy(update={"kms_key": "alias/another"})).create()
