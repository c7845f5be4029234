"""What the hub's audit log knows of JupyterHub's own requests, and what is refused while it cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.services.browser import Browser, send
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.process_tree import process_tree
from tests.services.workbench import wait_until
from workbench.querying.reporting import tell_statement
from workbench.runtime.activity import FOLDER_VARIABLE
from workbench.security.audit import Action, AuditLog, Event, read_events
from workbench.security.audit.proof.checkpointer import Checkpointer
from workbench.security.audit.proof.signing import SigningKey
from workbench.security.audit.proof.verification import Verdict, verify

ADMIN, MEMBER = "gh-ada", "gh-grace"
TEXT = {"type": "file", "format": "text", "content": "canary"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginHub]:
    folder = tmp_path_factory.mktemp("hub")
    with IdentityProvider() as provider, running_login_hub(folder, provider, WORKBENCH_LOGIN_ADMINS=ADMIN) as hub:
        yield hub


@pytest.fixture(scope="module")
def admin(hub: LoginHub) -> Iterator[Browser]:
    with hub.browser() as browser:
        assert browser.login("github", person="ada").status_code == 200
        yield browser


@pytest.fixture(scope="module")
def member(hub: LoginHub) -> Iterator[Browser]:
    with hub.browser() as browser:
        assert browser.login("github", person="grace").status_code == 200
        yield browser


def events(hub: LoginHub, action: Action, resource: str = "") -> list[Event]:
    found = read_events(AuditLog.of(hub.home).path, action=action)
    return [each for each in found if not resource or each.resource == resource]


@contextmanager
def unwritable(hub: LoginHub) -> Iterator[None]:
    """The log's folder is not there, and none can be made."""
    folder, aside = hub.home / "audit", hub.home / "audit-aside"
    folder.rename(aside)
    folder.write_text("in the way")
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)


def told(hub: LoginHub, action: Action, resource: str, count: int = 2) -> list[tuple[str, str]]:
    """Who and how it ended; the end is written once the answer is sent."""
    wait_until(lambda: len(events(hub, action, resource)) >= count, 20, f"{action} of {resource}")
    return [(each.actor, each.outcome) for each in events(hub, action, resource)]


def test_the_start_of_the_hub_is_recorded_with_what_it_was_set_to(hub: LoginHub):
    (event,) = events(hub, Action.HUB_CONFIGURED)

    assert event.details["admin"] == ADMIN
    assert event.details["providers"] == "github,google"
    secrets = [value for name, value in hub.variables.items() if "SECRET" in name]
    assert not any(secret in str(event) for secret in secrets)


def test_a_login_says_what_rights_it_gave(hub: LoginHub, admin: Browser, member: Browser):
    rights = {each.actor: each.details["rights"].split(",") for each in events(hub, Action.LOGIN_SUCCEEDED)}

    assert rights[ADMIN][0] == "admin"
    assert "admin" not in rights[MEMBER]


def test_tokens_that_people_make_and_revoke_are_recorded_and_not_shown(hub: LoginHub, admin: Browser):
    made = admin.api(f"/users/{ADMIN}/tokens", "POST", json={"expires_in": 3600}).json()
    assert admin.api(f"/users/{ADMIN}/tokens/{made['id']}", "DELETE").status_code == 204

    assert told(hub, Action.TOKEN_CHANGED, f"hub:api/users/{ADMIN}/tokens") == [(ADMIN, "begun"), (ADMIN, "success")]
    assert told(hub, Action.TOKEN_CHANGED, f"hub:api/users/{ADMIN}/tokens/{made['id']}")[1] == (ADMIN, "success")
    assert made["token"] not in AuditLog.of(hub.home).path.read_text()


def test_a_token_in_an_address_is_not_written(hub: LoginHub, member: Browser):
    secret = "0123456789abcdef0123456789abcdef"
    assert member.api(f"/authorizations/token/{secret}", "POST").status_code >= 400

    assert told(hub, Action.TOKEN_CHANGED, "hub:api/authorizations/token")[0] == (MEMBER, "begun")
    assert secret not in AuditLog.of(hub.home).path.read_text()


def test_what_somebody_may_not_do_is_recorded_as_refused(hub: LoginHub, member: Browser):
    assert member.api(f"/users/{ADMIN}", "DELETE").status_code in {403, 404}
    assert member.api("/groups/admins", "POST", json={}).status_code == 403

    assert told(hub, Action.USER_CHANGED, f"hub:api/users/{ADMIN}") == [(MEMBER, "begun"), (MEMBER, "refused")]
    assert told(hub, Action.GROUP_CHANGED, "hub:api/groups/admins") == [(MEMBER, "begun"), (MEMBER, "refused")]


def test_strangers_are_recorded_without_a_line_for_each(hub: LoginHub):
    with hub.browser() as stranger:
        for _ in range(60):
            assert stranger.client.post("/hub/api/users/x/tokens", json={}).status_code == 403

    known = told(hub, Action.TOKEN_CHANGED, "hub:api/users/x/tokens", 1)
    assert set(known) == {("", "refused")}
    assert len(known) <= 20


def test_nobody_tells_of_kernels_but_a_user_of_their_own(hub: LoginHub, admin: Browser):
    token = admin.api(f"/users/{ADMIN}/tokens", "POST", json={"expires_in": 600}).json()["token"]

    def tell(token: str, **body: object) -> int:
        return send("POST", f"{hub.url}/hub/api/workbench/kernels", token=token, json=body).status_code

    assert tell("", action="start") == 403
    assert tell("0" * 32, action="start") == 403
    assert hub.api("/workbench/kernels", "POST", json={"action": "start"}).status_code == 403  # a service
    assert tell(token, action="explode") == tell(token) == tell(token, action=["start"]) == 400
    for _ in range(70):
        assert tell(token, action="shutdown", kernel="x" * 5000, server="s") == 204
    told = events(hub, Action.KERNEL_STOPPED, f"server:{ADMIN}/s")
    assert {each.actor for each in told} == {ADMIN}
    assert len(told) == 60


def test_a_server_names_who_asked_for_it_and_what_is_done_in_it(
    hub: LoginHub, admin: Browser, member: Browser, monkeypatch: pytest.MonkeyPatch
):
    admin.api(f"/users/{MEMBER}/server", "POST")
    resource = f"server:{MEMBER}/"

    assert told(hub, Action.SERVER_STARTED, resource, 1)[0] == (ADMIN, "begun")
    wait_until(lambda: hub.has_running_server(MEMBER), 90, "the server")
    token = member.api(f"/users/{MEMBER}/tokens", "POST", json={"expires_in": 600}).json()["token"]
    made = send("POST", f"{hub.url}/user/{MEMBER}/api/kernels", token=token, json={"name": "python3"}).json()
    wait_until(lambda: bool(events(hub, Action.KERNEL_STARTED)), 30, "the kernel to be recorded")
    (kernel,) = events(hub, Action.KERNEL_STARTED)
    assert (kernel.actor, kernel.resource, kernel.details["kernel"]) == (MEMBER, resource, made["id"])
    contents = f"{hub.url}/user/{MEMBER}/api/contents"
    for path in ("", "/a.txt", "/a.txt"):
        assert send("PUT" if path else "GET", f"{contents}{path}", token=token, json=TEXT).status_code in {200, 201}
    assert told(hub, Action.CONTENTS_WRITTEN, resource, 1) == [(MEMBER, "success")]
    assert [each.details["path"] for each in events(hub, Action.CONTENTS_WRITTEN)] == ["a.txt"]
    assert events(hub, Action.CONTENTS_READ) == []
    assert send("GET", f"{hub.url}/user/{MEMBER}/files/a.txt", token=token).text == "canary"
    assert told(hub, Action.CONTENTS_READ, resource, 1) == [(MEMBER, "success")]
    environments = [each.environ() for each in process_tree(hub.pid)]
    runtime = next(each[FOLDER_VARIABLE] for each in environments if each.get("JUPYTERHUB_USER") == MEMBER)
    monkeypatch.setenv(FOLDER_VARIABLE, runtime)
    tell_statement("SELECT 'canary' FROM raw.flights", 3)  # as a kernel does
    assert told(hub, Action.DATA_QUERIED, resource, 1) == [(MEMBER, "success")]
    assert "canary" not in AuditLog.of(hub.home).path.read_text()
    assert admin.api(f"/users/{MEMBER}/server", "DELETE").status_code in {202, 204}
    told(hub, Action.SERVER_STOPPED, resource, 1)
    asked = told(hub, Action.SERVER_REQUESTED, f"hub:api/users/{MEMBER}/server", 4)
    assert {actor for actor, _ in asked} == {ADMIN}


def test_nothing_that_gives_is_done_while_it_cannot_be_recorded(hub: LoginHub, admin: Browser, member: Browser):
    made = admin.api(f"/users/{ADMIN}/tokens", "POST", json={"expires_in": 3600}).json()
    with unwritable(hub):
        refused = admin.api(f"/users/{ADMIN}/tokens", "POST", json={"expires_in": 3600})
        assert (refused.status_code, "audit log" in refused.text) == (503, True)
        assert admin.api("/groups/more", "POST", json={}).status_code == 503
        assert admin.api(f"/users/{MEMBER}/server", "POST").status_code == 503
        assert admin.api(f"/users/{ADMIN}").status_code == 200  # looking is free
        assert admin.api(f"/users/{ADMIN}/tokens/{made['id']}", "DELETE").status_code == 204  # and so is taking away
        with hub.browser() as browser:
            assert browser.login("github", person="grace").status_code >= 500
            assert not browser.is_logged_in()

    assert admin.api("/groups/more").status_code == 404
    assert not hub.has_running_server(MEMBER)
    with hub.browser() as browser:
        assert browser.login("github", person="grace").status_code == 200


def test_the_hub_signs_what_it_has_written(hub: LoginHub):
    """The last test here."""
    checkpointer = Checkpointer.of(hub.home)
    wait_until(checkpointer.path.is_file, 20, "the hub's first checkpoint")
    checkpointer.tick(is_forced=True)

    report = verify(checkpointer.log.path, [SigningKey.read(checkpointer.key_path).public])

    assert (report.verdict, report.problems) == (Verdict.WHOLE, [])
