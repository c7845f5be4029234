"""`workbench hub offboard` on a real hub: who was shown out has nothing left that works, and what they made is kept."""

from __future__ import annotations

import json
import stat
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from hub.keys import read_keys
from hub.offboarding import operator_token
from tests.services.browser import Browser
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.workbench import run, wait_until
from workbench.security.audit import Action, AuditLog, Event, read_events

START_SECONDS = 90

pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True)
class Member:
    """Somebody with a session, a running server, tokens, and something in their home."""

    name: str
    browser: Browser
    token: str
    server_token: str
    server: psutil.Process
    stray: subprocess.Popen[bytes]  #: left the server's session
    home: Path


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginHub]:
    folder = tmp_path_factory.mktemp("offboarding")
    with IdentityProvider() as provider, running_login_hub(folder, provider) as hub:
        yield hub


@pytest.fixture
def member(hub: LoginHub) -> Iterator[Member]:
    """Grace, newly let in."""
    with hub.browser() as browser:
        assert browser.login("github", person="grace").status_code == 200
        found = make_member(hub, browser, "gh-grace")
        yield found
        found.stray.kill()
        found.stray.wait()
        hub.api("/users/gh-grace/server", "DELETE")
        command(hub, "readmit", "gh-grace")


def make_member(hub: LoginHub, browser: Browser, name: str) -> Member:
    token = browser.api(f"/users/{name}/tokens", "POST", json={"expires_in": 3600}).json()["token"]
    assert browser.api(f"/users/{name}/server", "POST").status_code in (201, 202)
    wait_until(lambda: hub.has_running_server(name), START_SECONDS, "the server to be ready")
    server = next(each for each in psutil.Process(hub.pid).children() if "singleuser" in " ".join(each.cmdline()))
    given = server.environ()
    home = hub.home / "users" / name
    (home / "work.txt").write_text("kept")
    stray = subprocess.Popen(["sleep", "600"], env=given, start_new_session=True, cwd=home)
    found = Member(name, browser, token, given["JUPYTERHUB_API_TOKEN"], server, stray, home)
    assert all(works(hub, each) == 200 for each in (token, found.server_token))
    assert get_contents(hub, token).status_code == 200
    return found


def command(hub: LoginHub, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`workbench hub …`, as the operator types it."""
    return run("hub", *arguments, home=hub.home, **hub.variables)


def works(hub: LoginHub, token: str) -> int:
    """What the hub's API answers to who has the token."""
    headers = {"Authorization": f"token {token}"}
    return httpx.get(f"{hub.url}/hub/api/user", headers=headers, trust_env=False, timeout=30).status_code


def get_contents(hub: LoginHub, token: str) -> httpx.Response:
    headers = {"Authorization": f"token {token}"}
    return httpx.get(f"{hub.url}/user/gh-grace/api/contents", headers=headers, trust_env=False, timeout=30)


def events(hub: LoginHub, action: Action) -> list[Event]:
    return list(read_events(AuditLog.of(hub.home).path, action=action))


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_whoever_is_off_boarded_has_nothing_left_that_works(hub, member):
    children = member.server.children(recursive=True)

    done = command(hub, "offboard", "gh-grace", "--yes", "--json")

    assert done.returncode == 0, done.stderr
    assert not member.browser.is_logged_in()
    assert works(hub, member.token) == 403
    assert works(hub, member.server_token) == 403
    assert get_contents(hub, member.token).status_code in (403, 404, 424)
    assert member.browser.get("/user/gh-grace/api/contents").status_code in (302, 403, 404, 424)
    with hub.browser() as again:
        assert again.login("github", person="grace").status_code == 403
        assert not again.is_logged_in()
    assert all(is_gone(each) for each in (member.server, *children))
    assert member.stray.wait(5) < 0


def test_other_people_stay(hub, member):
    with hub.browser() as other:
        other.login("github", person="ada")
        token = other.api("/users/gh-ada/tokens", "POST", json={"expires_in": 600}).json()["token"]

        command(hub, "offboard", "gh-grace", "--yes")

        assert other.is_logged_in()
        assert works(hub, token) == 200


def test_the_home_is_archived_whole_and_private(hub, member):
    done = command(hub, "offboard", "gh-grace", "--yes", "--json")

    archive = Path(next(each for each in json.loads(done.stdout)["steps"] if "archived" in each).rpartition(" ")[2])
    assert archive.parent == hub.home / "archive"
    assert archive.name.startswith("gh-grace-")
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with tarfile.open(archive) as tar:
        found = tar.extractfile("gh-grace/work.txt")
        assert found
        assert found.read() == b"kept"
    assert not member.home.exists()


def test_a_home_can_be_left_where_it_is(hub, member):
    done = command(hub, "offboard", "gh-grace", "--yes", "--keep-home")

    assert done.returncode == 0, done.stderr
    assert (member.home / "work.txt").read_text() == "kept"


def test_the_tokens_that_the_provider_gave_are_revoked(hub, member):
    before = hub.provider.revocations

    command(hub, "offboard", "gh-grace", "--yes")

    assert hub.provider.revocations > before


def test_it_is_audited_with_who_did_it_and_what_was_done(hub, member):
    before = len(events(hub, Action.USER_OFFBOARDED))

    command(hub, "offboard", "gh-grace", "--yes")

    found = events(hub, Action.USER_OFFBOARDED)[before:]
    assert [(each.resource, each.outcome) for each in found] == [("gh-grace", "success")]
    assert found[0].actor.startswith("operator:")
    assert len(found[0].actor) > len("operator:")
    assert "sign-in blocked" in found[0].details["steps"]
    text = AuditLog.of(hub.home).path.read_text()
    assert not any(secret in text for secret in (member.token, member.server_token, operator_token(hub.home)))


def test_off_boarding_again_is_a_success_that_changes_nothing(hub, member):
    command(hub, "offboard", "gh-grace", "--yes")
    archives = sorted((hub.home / "archive").iterdir())

    again = command(hub, "offboard", "gh-grace", "--yes")

    assert again.returncode == 0, again.stderr
    assert sorted((hub.home / "archive").iterdir()) == archives


def test_whoever_is_readmitted_comes_in_again_with_a_new_home(hub, member):
    command(hub, "offboard", "gh-grace", "--yes")

    done = command(hub, "readmit", "gh-grace")

    assert done.returncode == 0, done.stderr
    assert not member.browser.is_logged_in()
    assert works(hub, member.token) == 403
    with hub.browser() as again:
        assert again.login("github", person="grace").status_code == 200
        assert again.is_logged_in()
    assert events(hub, Action.USER_UNBLOCKED)[-1].resource == "gh-grace"


def test_a_home_that_cannot_be_archived_is_left_and_the_rest_is_done(hub, member):
    (hub.home / "archive").mkdir(mode=0o700, exist_ok=True)
    kept = hub.home / "archive-of-before"
    (hub.home / "archive").rename(kept)
    (hub.home / "archive").write_text("in the way")
    try:
        done = command(hub, "offboard", "gh-grace", "--yes", "--json")
    finally:
        (hub.home / "archive").unlink()
        kept.rename(hub.home / "archive")

    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"]
    assert "Remedy" in done.stderr
    assert (member.home / "work.txt").read_text() == "kept"
    assert not member.browser.is_logged_in()
    assert events(hub, Action.USER_OFFBOARDED)[-1].outcome == "failed"
    assert command(hub, "offboard", "gh-grace", "--yes").returncode == 0
    assert not member.home.exists()


def test_a_name_that_nobody_has_changes_nothing(hub):
    for verb in (["offboard", "--yes"], ["readmit"]):
        done = command(hub, *verb, f"gh-{uuid.uuid4().hex[:8]}")

        assert done.returncode == 2
        assert "nobody here is called" in done.stderr
        assert "workbench hub users" in done.stderr


def test_the_list_says_who_is_out(hub, member):
    command(hub, "offboard", "gh-grace", "--yes")

    found = json.loads(command(hub, "users", "--json").stdout)

    assert {each["name"]: each["is_blocked"] for each in found}["gh-grace"] is True


def test_only_the_operators_token_may_do_it(hub, member):
    url = f"{hub.url}/hub/api/workbench/users/gh-grace/offboard"
    for token in (member.token, member.server_token, "0" * 64, ""):
        headers = {"Authorization": f"token {token}"} if token else {}
        assert httpx.post(url, headers=headers, json={}, trust_env=False, timeout=30).status_code == 403
    assert member.browser.api("/workbench/users/gh-grace/offboard", "POST", json={}).status_code == 403
    assert member.browser.is_logged_in()


@pytest.mark.parametrize("path", ["/users", "/users/gh-grace", "/services", "/shutdown", "/users/gh-grace/tokens"])
def test_the_operators_token_may_do_nothing_else(hub, path):
    headers = {"Authorization": f"token {operator_token(hub.home)}"}
    method = "POST" if path == "/shutdown" else "GET"

    answer = httpx.request(method, f"{hub.url}/hub/api{path}", headers=headers, trust_env=False, timeout=30)

    assert answer.status_code in (403, 404)


def test_whoever_signed_in_before_a_rotation_of_keys_stays_after_the_restart(hub):
    with hub.browser() as browser:
        browser.login("github", person="ada")
        before = read_keys(hub.home / "keys" / "hub-auth-state")

        assert command(hub, "rotate-keys").returncode == 0
        hub.restart()

        assert read_keys(hub.home / "keys" / "hub-auth-state")[1:] == before
        assert browser.is_logged_in()
        # What the old key encrypted was read: the provider was asked with it, or need not be asked yet.
        assert "Failed to decrypt" not in hub.log
