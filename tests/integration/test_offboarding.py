"""`workbench hub offboard` on a real hub: who was shown out has nothing left that works, and what they made is kept."""

from __future__ import annotations

import json
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from hub.keys import read_keys
from hub.offboarding import operator_token
from tests.services.browser import Browser
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.process_tree import arguments, has_ended
from tests.services.workbench import run, wait_until
from workbench.security.audit import Action, AuditLog, Event, read_events

START_SECONDS = 90

pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True)
class ShownOut:
    """Somebody who had a session, a running server, tokens and a home, and what became of them."""

    browser: Browser
    tokens: tuple[str, ...]  #: asked for at the hub, and the server's own
    processes: tuple[psutil.Process, ...]
    stray: subprocess.Popen[bytes]  #: left the server's session
    revocations: int  #: at the provider, until then
    done: subprocess.CompletedProcess[str]

    @property
    def answer(self) -> dict[str, Any]:
        return json.loads(self.done.stdout)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginHub]:
    folder = tmp_path_factory.mktemp("offboarding")
    with IdentityProvider() as provider, running_login_hub(folder, provider) as hub:
        yield hub


@pytest.fixture(scope="module")
def grace(hub: LoginHub) -> Iterator[ShownOut]:
    """Off-boarded in the midst of work; nobody lets her in again."""
    with hub.browser() as browser:
        assert browser.login("github", person="grace").status_code == 200
        token = browser.api("/users/gh-grace/tokens", "POST", json={"expires_in": 3600}).json()["token"]
        assert browser.api("/users/gh-grace/server", "POST").status_code in (201, 202)
        wait_until(lambda: hub.has_running_server("gh-grace"), START_SECONDS, "the server to be ready")
        server = next(each for each in psutil.Process(hub.pid).children() if "singleuser" in " ".join(arguments(each)))
        given = server.environ()
        (hub.home / "users" / "gh-grace" / "work.txt").write_text("kept")
        tokens = (token, given["JUPYTERHUB_API_TOKEN"])
        assert [works(hub, each) for each in tokens] == [200, 200]
        kernel = httpx.post(
            f"{hub.url}/user/gh-grace/api/kernels", headers=bearer(token), json={}, trust_env=False, timeout=60
        )
        assert kernel.status_code == 201, kernel.text
        processes = (server, *server.children(recursive=True))
        assert len(processes) > 1
        before = hub.provider.revocations
        with subprocess.Popen(["sleep", "600"], env=given, start_new_session=True) as stray:
            try:
                done = command(hub, "offboard", "gh-grace", "--yes", "--json")
                yield ShownOut(browser, tokens, processes, stray, before, done)
            finally:
                stray.kill()


@pytest.fixture
def ada(hub: LoginHub) -> Iterator[Browser]:
    """Somebody who has signed in and has a home."""
    with hub.browser() as browser:
        assert browser.login("github", person="ada").status_code == 200
        home_of_ada(hub).mkdir(parents=True, exist_ok=True)
        (home_of_ada(hub) / "work.txt").write_text("kept")
        yield browser
        assert command(hub, "readmit", "gh-ada").returncode == 0


def home_of_ada(hub: LoginHub) -> Path:
    return hub.home / "users" / "gh-ada"


def command(hub: LoginHub, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`workbench hub …`, as the operator types it."""
    return run("hub", *arguments, home=hub.home, **hub.variables)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"token {token}"}


def works(hub: LoginHub, token: str) -> int:
    """What the hub's API answers to who has the token."""
    return httpx.get(f"{hub.url}/hub/api/user", headers=bearer(token), trust_env=False, timeout=30).status_code


def events(hub: LoginHub, action: Action, resource: str) -> list[Event]:
    return [each for each in read_events(AuditLog.of(hub.home).path, action=action) if each.resource == resource]


def test_all_of_it_was_done(grace):
    assert grace.done.returncode == 0, grace.done.stderr
    assert grace.answer["problems"] == []


def test_sessions_and_tokens_are_worth_nothing(hub, grace):
    assert not grace.browser.is_logged_in()
    assert [works(hub, token) for token in grace.tokens] == [403, 403]


def test_nobody_reaches_the_server(hub, grace):
    path = "/user/gh-grace/api/contents"
    assert not grace.browser.get(path).is_success
    for token in grace.tokens:
        assert not httpx.get(f"{hub.url}{path}", headers=bearer(token), trust_env=False, timeout=30).is_success


def test_a_new_login_is_refused(hub, grace):
    with hub.browser() as again:
        assert again.login("github", person="grace").status_code == 403
        assert not again.is_logged_in()


def test_no_process_is_left_not_even_one_that_left_the_servers_session(grace):
    assert [each for each in grace.processes if not has_ended(each)] == []
    assert grace.stray.wait(5) < 0


def test_the_home_is_archived_whole_and_private(hub, grace):
    archive = Path(next(each for each in grace.answer["steps"] if "archived" in each).rpartition(" ")[2])

    assert archive.parent == hub.home / "archive"
    assert archive.name.startswith("gh-grace-")
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with tarfile.open(archive) as tar:
        found = tar.extractfile("gh-grace/work.txt")
        assert found
        assert found.read() == b"kept"
    assert not (hub.home / "users" / "gh-grace").exists()


def test_the_provider_revoked_what_it_gave(hub, grace):
    assert hub.provider.revocations > grace.revocations


def test_it_is_audited_with_who_did_it_and_without_secrets(hub, grace):
    found = events(hub, Action.USER_OFFBOARDED, "gh-grace")[0]

    assert found.outcome == "success"
    assert len(found.actor) > len("operator:")
    assert "sign-in blocked" in found.details["steps"]
    text = AuditLog.of(hub.home).path.read_text()
    assert not any(secret in text for secret in (*grace.tokens, operator_token(hub.home)))


def test_the_list_says_who_is_out(hub, grace, ada):
    found = {each["name"]: each["is_blocked"] for each in json.loads(command(hub, "users", "--json").stdout)}

    assert found == {"gh-grace": True, "gh-ada": False}


def test_off_boarding_again_is_a_success_that_changes_nothing(hub, grace):
    archives = sorted((hub.home / "archive").iterdir())

    again = command(hub, "offboard", "gh-grace", "--yes")

    assert again.returncode == 0, again.stderr
    assert sorted((hub.home / "archive").iterdir()) == archives


def test_other_people_stay(hub, grace, ada):
    token = ada.api("/users/gh-ada/tokens", "POST", json={"expires_in": 600}).json()["token"]

    command(hub, "offboard", "gh-grace", "--yes")

    assert ada.is_logged_in()
    assert works(hub, token) == 200


def test_whoever_is_readmitted_comes_in_again_but_not_with_what_they_had(hub, ada):
    token = ada.api("/users/gh-ada/tokens", "POST", json={"expires_in": 600}).json()["token"]
    assert command(hub, "offboard", "gh-ada", "--yes").returncode == 0
    with hub.browser() as out:
        assert out.login("github", person="ada").status_code == 403

    done = command(hub, "readmit", "gh-ada")

    assert done.returncode == 0, done.stderr
    assert not ada.is_logged_in()
    assert works(hub, token) == 403
    with hub.browser() as again:
        assert again.login("github", person="ada").status_code == 200
        assert again.is_logged_in()
    assert events(hub, Action.USER_UNBLOCKED, "gh-ada")


def test_a_home_can_be_left_where_it_is(hub, ada):
    done = command(hub, "offboard", "gh-ada", "--yes", "--keep-home")

    assert done.returncode == 0, done.stderr
    assert (home_of_ada(hub) / "work.txt").read_text() == "kept"


def test_a_home_that_cannot_be_archived_is_left_and_the_rest_is_done(hub, ada):
    archive, aside = hub.home / "archive", hub.home / "archive-aside"
    archive.mkdir(mode=0o700, exist_ok=True)
    archive.rename(aside)
    archive.write_text("in the way")
    try:
        done = command(hub, "offboard", "gh-ada", "--yes", "--json")
    finally:
        archive.unlink()
        aside.rename(archive)

    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"]
    assert "Remedy: " in done.stderr
    assert (home_of_ada(hub) / "work.txt").read_text() == "kept"
    assert not ada.is_logged_in()
    assert events(hub, Action.USER_OFFBOARDED, "gh-ada")[-1].outcome == "failed"
    assert command(hub, "offboard", "gh-ada", "--yes").returncode == 0
    assert not home_of_ada(hub).exists()


def test_a_name_that_nobody_has_changes_nothing(hub):
    for verb in (["offboard", "--yes"], ["readmit"]):
        done = command(hub, *verb, "gh-nobody")

        assert done.returncode == 2
        assert "nobody here is called gh-nobody" in done.stderr
        assert "workbench hub users" in done.stderr


def test_only_the_operators_token_may_do_it(hub, ada):
    url = f"{hub.url}/hub/api/workbench/users/gh-ada/offboard"
    token = ada.api("/users/gh-ada/tokens", "POST", json={"expires_in": 600}).json()["token"]
    for headers in (bearer(token), bearer("0" * 64), {}):
        assert httpx.post(url, headers=headers, json={}, trust_env=False, timeout=30).status_code == 403
    assert ada.api("/workbench/users/gh-ada/offboard", "POST", json={}).status_code == 403
    assert ada.is_logged_in()


@pytest.mark.parametrize("path", ["/users", "/users/gh-ada", "/services", "/shutdown", "/workbench/status"])
def test_the_operators_token_may_do_nothing_else(hub, ada, path):
    method = "POST" if path == "/shutdown" else "GET"

    answer = httpx.request(
        method, f"{hub.url}/hub/api{path}", headers=bearer(operator_token(hub.home)), trust_env=False, timeout=30
    )

    assert answer.status_code in (403, 404)


def test_a_key_that_is_in_use_outlives_rotations_without_a_start(hub, ada):
    path = hub.home / "keys" / "hub-auth-state"
    used = read_keys(path)[0]

    codes = [command(hub, "rotate-keys").returncode for _ in range(4)]

    assert codes[-1] == 2
    assert used in read_keys(path)
    hub.restart()
    assert ada.is_logged_in()
    assert hub.api("/users/gh-ada").json()["auth_state"]["provider"] == "github"


def test_whoever_signed_in_before_a_rotation_of_keys_stays_after_the_restart(hub, ada):
    before = read_keys(hub.home / "keys" / "hub-auth-state")

    assert command(hub, "rotate-keys").returncode == 0
    hub.restart()

    assert read_keys(hub.home / "keys" / "hub-auth-state")[1:] == before[:2]
    assert ada.is_logged_in()
    # What the old key encrypted could be read: it has the provider's name.
    assert hub.api("/users/gh-ada").json()["auth_state"]["provider"] == "github"
