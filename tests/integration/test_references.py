"""Secrets in a Vault: read by their reference, over HTTP, by the library and by a command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.key_services import TOKEN, KeyService, running_key_service
from tests.services.workbench import COMMAND, environment, run
from workbench.errors import SecretUnavailable
from workbench.references import SecretReference
from workbench.resolving import References
from workbench.security.references import references_of
from workbench.settings import Settings

CANARY = "json://canary-4713@127.0.0.1:1/"
PATH = "secret/data/team/alerts"
REFERENCE = SecretReference.parse("vault:secret/team/alerts#url")


@pytest.fixture
def service() -> Iterator[KeyService]:
    with running_key_service() as running:
        running.kept[PATH] = {"url": CANARY}
        yield running


@pytest.fixture
def variables(service: KeyService, tmp_path: Path) -> dict[str, str]:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    (tmp_path / "home").mkdir(mode=0o700)
    return {"WORKBENCH_KEYS_VAULT_ADDRESS": service.address, "WORKBENCH_KEYS_VAULT_TOKEN_FILE": str(token)}


@pytest.fixture
def references(variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> References:
    for name, value in {**variables, "WORKBENCH_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    return references_of(Settings.load(), {})


def test_a_field_of_a_secret_in_vault_is_read_each_time(service, references):
    assert references.read(REFERENCE).get_secret_value() == CANARY
    service.kept[PATH] = {"url": "json://another@127.0.0.1:1/"}

    assert references.read(REFERENCE).get_secret_value() == "json://another@127.0.0.1:1/"
    assert service.asked == [f"/v1/{PATH}"] * 2


@pytest.mark.parametrize("fault", ["sealed", "no such secret", "no such field", "another token", "loose token"])
def test_a_vault_that_does_not_give_it_says_why_and_shows_nothing(service, variables, references, fault):
    token = Path(variables["WORKBENCH_KEYS_VAULT_TOKEN_FILE"])
    if fault == "sealed":
        service.is_sealed = True
    elif fault == "no such secret":
        service.kept.clear()
    elif fault == "no such field":
        service.kept[PATH] = {"other": CANARY}
    elif fault == "another token":
        token.write_text("hvs.another")
    else:
        token.chmod(0o644)

    with pytest.raises(SecretUnavailable, match="vault:secret/team/alerts#url is not there") as error:
        references.read(REFERENCE)
    assert error.value.remedy
    assert "canary" not in str(error.value)
    assert TOKEN not in str(error.value)


def test_a_vault_that_is_not_there_says_so(references, variables, monkeypatch):
    monkeypatch.setenv("WORKBENCH_KEYS_VAULT_ADDRESS", "http://127.0.0.1:1")

    with pytest.raises(SecretUnavailable, match="does not answer"):
        references_of(Settings.load(), {}).read(REFERENCE)


def test_a_channel_of_alerts_may_have_its_address_in_vault_or_in_the_keyset(variables, tmp_path):
    home = tmp_path / "home"
    file = tmp_path / "alerts.yaml"
    file.write_text(
        "channels:\n  a: {url: 'vault:secret/team/alerts#url'}\n  b: {url: keyset:pager}\n  c: {url: keyset:no}\n"
    )
    kept = run_with("secrets", "set", "pager", home=home, given=CANARY, **variables)
    assert kept.returncode == 0, kept.stderr

    done = run("alerts", "channels", "--file", str(file), "--json", home=home, **variables)

    assert {each["name"]: each["configured"] for each in json.loads(done.stdout)["channels"]} == {
        "a": True,
        "b": True,
        "c": False,
    }
    assert "canary" not in done.stdout + done.stderr + kept.stdout + kept.stderr


def run_with(*arguments: str, home: Path, given: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        env=environment(home, **variables),
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=home,
    )
