"""Who may no longer be here is out soon, with servers and tokens; an outage of the provider puts nobody out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from hub.authentication.authenticator import UNANSWERED_SECONDS
from tests.services.identity_provider import Fault, IdentityProvider, Person
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.workbench import wait_until
from workbench.security.audit import Action, AuditLog, read_events

RECHECK_SECONDS = 5
# The time until somebody is due, the next look, the question, and the stop of a server on a busy machine.
OUT_SECONDS = 40

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def provider():
    with IdentityProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def hub(provider, tmp_path_factory):
    variables = {
        "WORKBENCH_LOGIN_RECHECK_SECONDS": str(RECHECK_SECONDS),
        "WORKBENCH_LOGIN_ENGINEERS": "github:example:data,g-ada-fe675f",
        "WORKBENCH_LOGIN_ADMINS": "gh-ada",
    }
    folder = tmp_path_factory.mktemp("hub")
    with running_login_hub(folder, provider, providers=("github", "google", "oidc"), **variables) as hub:
        yield hub


@pytest.fixture
def person(provider):
    """Somebody of the organization, new for each test."""
    number = 10_000 + len(provider.requests)
    made = Person(f"member{number}", number, "A Member", f"member{number}@example.com", hd="example.com")
    made.organizations, made.groups = {"example"}, {"staff@example.com"}
    provider.people.append(made)
    yield made
    if made in provider.people:
        provider.remove(made.login)


def name_of(hub: LoginHub, page: httpx.Response) -> str:
    """The hub's name of whoever has just come in."""
    assert page.status_code == 200, page.text
    return events(hub, Action.LOGIN_SUCCEEDED)[-1].actor


def events(hub: LoginHub, action: Action):
    return list(read_events(AuditLog.of(hub.home).path, action=action))


@pytest.mark.parametrize("key", ["github", "google", "oidc"])
def test_a_removed_member_is_out_with_server_and_tokens(hub, provider, person, key):
    with hub.browser() as browser:
        name = name_of(hub, browser.login(key, person=person.login))
        token = browser.api(f"/users/{name}/tokens", "POST", json={"expires_in": 3600}).json()["token"]
        assert hub.api(f"/users/{name}/server", "POST").status_code in {201, 202}
        wait_until(lambda: hub.has_running_server(name), 60, "the server to run")

        revoked = provider.revocations
        provider.remove(person.login)

        wait_until(lambda: not hub.has_running_server(name), OUT_SECONDS, "the server to be stopped")
        assert not browser.is_logged_in()
        answer = httpx.get(f"{hub.url}/hub/api/user", headers={"Authorization": f"token {token}"}, trust_env=False)
        assert answer.status_code == 403
        assert hub.api(f"/users/{name}/tokens").json()["api_tokens"] == []
    assert [each for each in events(hub, Action.MEMBERSHIP_REVOKED) if each.resource == name]
    wait_until(lambda: provider.revocations > revoked, 10, "the provider's tokens to be given back")


@pytest.mark.parametrize("key", ["github", "google", "oidc"])
def test_tokens_revoked_at_the_provider_end_the_session(hub, provider, person, key):
    with hub.browser() as browser:
        browser.login(key, person=person.login)
        assert browser.is_logged_in()

        provider.revoke_tokens(person.login)

        wait_until(lambda: not browser.is_logged_in(), OUT_SECONDS, "the session to end")
        assert browser.login(key, person=person.login).status_code == 200


@pytest.mark.parametrize("key", ["google", "oidc"])
def test_a_session_outlives_its_access_tokens(hub, provider, person, key):
    with hub.browser() as browser:
        name = name_of(hub, browser.login(key, person=person.login))
        path = {"google": "/oauth2/v4/token", "oidc": "/realm/token"}[key]
        before = len(provider.requests_to(path))

        provider.expire_access_tokens()

        wait_until(lambda: len(provider.requests_to(path)) > before, OUT_SECONDS, "a refresh")
        assert browser.is_logged_in()
        assert not [each for each in events(hub, Action.MEMBERSHIP_REVOKED) if each.resource == name]


def test_refresh_tokens_that_are_good_once_serve_several_tabs(hub, provider, person):
    assert provider.rotates_refresh_tokens == {"oidc"}
    assert provider.detects_reuse
    with hub.browser() as browser:
        browser.login("oidc", person=person.login)
        for _ in range(3):
            provider.expire_access_tokens()
            asked = len(provider.questions_about(person, "/realm/userinfo"))
            with ThreadPoolExecutor(4) as tabs:
                # The first question is refused, the tokens are exchanged, the second is answered.
                while len(provider.questions_about(person, "/realm/userinfo")) < asked + 2:
                    assert all(tabs.map(lambda _: browser.is_logged_in(), range(4)))
            assert browser.is_logged_in()


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(404),
        Fault.status(503),
        Fault.rate_limited(),
        Fault.garbage(),
    ],
    ids=["404 of a proxy", "503", "rate limit", "garbage"],
)
def test_an_outage_puts_nobody_out(hub, provider, person, fault):
    with hub.browser() as browser:
        name = name_of(hub, browser.login("github", person=person.login))
        with provider.outage(fault):
            asked = len(provider.requests)
            # Nobody else may be there to be asked about; whoever was not answered about waits before the next question.
            seconds = OUT_SECONDS + 2 * UNANSWERED_SECONDS
            wait_until(lambda: len(provider.requests) > asked + 2, seconds, "the provider to be asked")
            assert browser.is_logged_in()
        assert browser.is_logged_in()
    assert not [each for each in events(hub, Action.MEMBERSHIP_REVOKED) if each.resource == name]


def test_a_refusal_of_the_hubs_own_client_puts_nobody_out(hub, provider, person, monkeypatch):
    with hub.browser() as browser:
        name = name_of(hub, browser.login("google", person=person.login))
        monkeypatch.setattr(provider.protocols["google"].client, "secret", "rotated")
        provider.expire_access_tokens()
        asked = len(provider.requests_to("/oauth2/v4/token"))

        wait_until(lambda: len(provider.requests_to("/oauth2/v4/token")) > asked, OUT_SECONDS, "a refresh")

        assert browser.is_logged_in()
    assert not [each for each in events(hub, Action.MEMBERSHIP_REVOKED) if each.resource == name]


def test_new_tokens_are_kept_though_the_next_question_fails(hub, provider, person):
    with hub.browser() as browser:
        name = name_of(hub, browser.login("oidc", person=person.login))
        with provider.fault("oidc:userinfo", Fault.status(503)):
            provider.expire_access_tokens()
            asked = len(provider.requests_to("/realm/userinfo"))
            # An ill provider says nothing about the token, so it is exchanged when it is known to be old.
            wait_until(lambda: len(provider.requests_to("/realm/userinfo")) > asked, OUT_SECONDS, "a question")
        asked = len(provider.requests_to("/realm/userinfo"))
        wait_until(lambda: len(provider.requests_to("/realm/userinfo")) > asked, OUT_SECONDS, "an answer")
        assert browser.is_logged_in()
    assert not [each for each in events(hub, Action.MEMBERSHIP_REVOKED) if each.resource == name]


def test_api_tokens_outlive_a_logout_and_are_watched(hub, provider, person):
    with hub.browser() as browser:
        name = name_of(hub, browser.login("github", person=person.login))
        token = browser.api(f"/users/{name}/tokens", "POST", json={"expires_in": 3600}).json()["token"]
        browser.logout()
    revoked = provider.revocations

    def status() -> int:
        return httpx.get(
            f"{hub.url}/hub/api/user", headers={"Authorization": f"token {token}"}, trust_env=False
        ).status_code

    asked = len(provider.requests_to("/api/v3/user"))
    wait_until(lambda: len(provider.requests_to("/api/v3/user")) > asked + 1, OUT_SECONDS, "two more questions")
    assert status() == 200

    for each in hub.api(f"/users/{name}/tokens").json()["api_tokens"]:
        hub.api(f"/users/{name}/tokens/{each['id']}", "DELETE")

    wait_until(lambda: provider.revocations > revoked, OUT_SECONDS, "the provider's tokens to be given back")
    assert not [each for each in events(hub, Action.MEMBERSHIP_REVOKED) if each.resource == name]


def test_a_team_that_was_left_takes_its_role_along(hub, provider, person):
    person.teams = {"example:data"}
    with hub.browser() as browser:
        name = name_of(hub, browser.login("github", person=person.login))
        assert "engineers" in hub.api(f"/users/{name}").json()["groups"]

        person.teams = set()

        wait_until(lambda: "analysts" in hub.api(f"/users/{name}").json()["groups"], OUT_SECONDS, "another role")
        assert "engineers" not in hub.api(f"/users/{name}").json()["groups"]
        assert browser.is_logged_in()


def test_only_groups_that_a_rule_names_are_groups_of_the_hub(hub, provider, person):
    person.groups = {"staff@example.com", *(f"other{number}@example.com" for number in range(300))}
    with hub.browser() as browser:
        name = name_of(hub, browser.login("oidc", person=person.login))

    assert "oidc:staff@example.com" in hub.api(f"/users/{name}").json()["groups"]
    assert not [each["name"] for each in hub.api("/groups").json() if "other" in each["name"]]


def test_an_administrator_who_is_shown_out_keeps_no_right(hub, provider):
    with hub.browser() as browser:
        name = name_of(hub, browser.login("github", person="ada"))
        assert "admin" in hub.api(f"/users/{name}").json()["roles"]

        provider.revoke_tokens("ada")

        wait_until(lambda: not browser.is_logged_in(), OUT_SECONDS, "the session to end")

    # The request is refused first; what the person had is taken away beside it.
    def rights() -> tuple[object, ...]:
        found = hub.api(f"/users/{name}").json()
        return found["admin"], found["roles"], found["groups"]

    wait_until(lambda: rights() == (False, ["user"], []), 10, "the rights to be gone")


def test_logging_out_gives_the_tokens_back_and_ends_the_session_at_the_issuer(hub, provider, person):
    with hub.browser() as browser:
        name = name_of(hub, browser.login("oidc", person=person.login))
        revoked, ended = provider.revocations, len(provider.ended_sessions)

        browser.logout()

        assert not browser.is_logged_in()
    assert provider.revocations > revoked
    assert len(provider.ended_sessions) > ended
    assert [each for each in events(hub, Action.LOGOUT) if each.actor == name]


def test_who_logs_out_with_a_running_server_is_still_watched(hub, provider, person):
    with hub.browser() as browser:
        name = name_of(hub, browser.login("github", person=person.login))
        hub.api(f"/users/{name}/server", "POST")
        wait_until(lambda: hub.has_running_server(name), 60, "the server to run")
        browser.logout()
        assert hub.has_running_server(name)

        provider.remove(person.login)

        wait_until(lambda: not hub.has_running_server(name), OUT_SECONDS, "the server to be stopped")
    assert [each for each in events(hub, Action.MEMBERSHIP_REVOKED) if each.resource == name]


def test_the_profile_is_there_for_lab(hub, provider, person):
    with hub.browser() as browser:
        name = name_of(hub, browser.login("github", person=person.login))

    assert hub.api(f"/users/{name}").json()["user_info"]["display_name"] == person.name
