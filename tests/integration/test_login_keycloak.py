"""Logins through a real Keycloak: who gets in, who stays in, and who is out when Keycloak says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import pytest

from hub.authentication.authenticator import UNANSWERED_SECONDS
from tests.services.browser import Browser
from tests.services.identity_provider import IdentityProvider
from tests.services.keycloak_browser import KeycloakBrowser
from tests.services.keycloak_realm import Realm
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.workbench import wait_until
from workbench.security.audit import AuditLog, read_events

CLIENT, SECRET = "hub", "s3cret+/%=& of the hub"
PASSWORD = "correct horse+/%=&"
RECHECK_SECONDS = 5
TOKEN_SECONDS = 4  # each recheck finds an access token that has run out
OUT_SECONDS = RECHECK_SECONDS + 15
SERVER_SECONDS = 90

# Keycloak takes half a minute to start, on a busy machine more.
pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Person:
    """Somebody who has logged in through Keycloak's form."""

    id: str  #: Keycloak's, the subject
    name: str  #: the hub's
    browser: Browser  #: at the hub
    keycloak: KeycloakBrowser  #: the same browser at Keycloak


@pytest.fixture(scope="module")
def realm(keycloak: Realm) -> Realm:
    return keycloak.another(
        "people",
        accessTokenLifespan=TOKEN_SECONDS,
        editUsernameAllowed=True,
        eventsEnabled=True,
        enabledEventTypes=["REFRESH_TOKEN", "REFRESH_TOKEN_ERROR"],
    )


@pytest.fixture(scope="module")
def hub(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginHub]:
    settings = {
        "WORKBENCH_LOGIN_OIDC_ISSUER": realm.issuer,
        "WORKBENCH_LOGIN_OIDC_CLIENT_ID": CLIENT,
        "WORKBENCH_LOGIN_OIDC_CLIENT_SECRET": SECRET,
        "WORKBENCH_LOGIN_OIDC_GROUPS": "staff",
        "WORKBENCH_LOGIN_ENGINEERS": "oidc:engineers",
        "WORKBENCH_LOGIN_RECHECK_SECONDS": str(RECHECK_SECONDS),
    }
    folder = tmp_path_factory.mktemp("hub")
    with IdentityProvider() as unused, running_login_hub(folder, unused, providers=("oidc",), **settings) as hub:
        callback, after_logout = f"{hub.url}/hub/oidc/callback", f"{hub.url}/hub/login"
        realm.add_login_client(CLIENT, SECRET, callback=callback, after_logout=after_logout)
        yield hub


def come_back(browser: Browser, keycloak: KeycloakBrowser, login: str) -> httpx.Response:
    """What the hub answers to somebody who comes back from Keycloak's form."""
    return browser.finish(keycloak.log_in(browser.begin("oidc"), login, PASSWORD))


@contextmanager
def logged_in(hub: LoginHub, realm: Realm, login: str, *groups: str) -> Iterator[Person]:
    """A new person of the group `staff`, and of others, in a browser of their own."""
    number = realm.add_person(login, PASSWORD, groups=["staff", *groups])
    with hub.browser() as browser, KeycloakBrowser() as keycloak:
        assert come_back(browser, keycloak, login).status_code == 302
        yield Person(number, browser.api("/user").json()["name"], browser, keycloak)


def events(hub: LoginHub, action: str, name: str) -> list[dict[str, Any]]:
    """What the audit log says of the kind about the person, as actor or as who it was done to."""
    found = read_events(AuditLog.of(hub.home).path, action=action)
    return [asdict(each) for each in found if name in {each.actor, each.resource}]


def wait_until_out(hub: LoginHub, person: Person) -> dict[str, Any]:
    """Wait for the hub to have shown the person out, which sends no request; returns the event."""
    # The event comes before the first step, this line after the last.
    wait_until(lambda: f"{person.name} is out (" in hub.log, OUT_SECONDS, f"{person.name} to be out")
    return events(hub, "membership.revoked", person.name)[0]


def refreshes(realm: Realm, person: Person) -> int:
    """How often Keycloak has taken a refresh token of the person."""
    return len(realm.get(f"/events?type=REFRESH_TOKEN&user={person.id}"))


def refused_refreshes(realm: Realm, person: Person) -> list[str]:
    """Why Keycloak has refused some; such an event names the person in its details only."""
    found = [each["details"] for each in realm.get("/events?type=REFRESH_TOKEN_ERROR")]
    return [each.get("reason", "") for each in found if each.get("refresh_token_sub") == person.id]


def rotate_refresh_tokens(realm: Realm) -> None:
    """From now on each refresh token is good for one use."""
    realm.put("", {"revokeRefreshToken": True, "refreshTokenMaxReuse": 0})


def test_keycloaks_form_gives_a_name_groups_and_a_role(hub, realm):
    with logged_in(hub, realm, "ada", "engineers") as ada:
        found = hub.api(f"/users/{ada.name}").json()

    assert re.fullmatch(r"o-ada-[0-9a-f]{6}", ada.name)
    assert sorted(found["groups"]) == ["engineers", "oidc:engineers", "oidc:staff"]
    assert found["user_info"]["display_name"] == "Ada Example"
    assert not found["admin"]


def test_who_is_in_no_allowed_group_is_refused(hub, realm):
    realm.add_person("mallory", PASSWORD, groups=["engineers"])
    with hub.browser() as browser, KeycloakBrowser() as keycloak:
        answer = come_back(browser, keycloak, "mallory")
        assert not browser.is_logged_in()

    assert answer.status_code == 403
    assert "no rule of this workbench lets you in" in answer.text
    assert not [each for each in hub.api("/users").json() if "mallory" in each["name"]]


def test_two_tabs_stay_in_over_several_access_tokens_when_refresh_tokens_rotate_too(hub, realm):
    with logged_in(hub, realm, "grace") as grace, hub.browser() as other, ThreadPoolExecutor() as pool:
        other.cookies.update(grace.browser.cookies)

        def are_in_after(count: int) -> bool:
            assert all(pool.map(Browser.is_logged_in, [grace.browser, other]))
            return refreshes(realm, grace) >= count

        wait_until(lambda: are_in_after(1), OUT_SECONDS, "a refresh")
        rotate_refresh_tokens(realm)
        wait_until(lambda: are_in_after(3), 2 * OUT_SECONDS, "two more")
        assert not refused_refreshes(realm, grace)


def test_who_leaves_the_group_is_out_with_server_token_and_cookie(hub, realm):
    with logged_in(hub, realm, "linus", "engineers") as linus:
        token = linus.browser.api(f"/users/{linus.name}/tokens", "POST", json={"expires_in": 3600}).json()["token"]
        headers = {"Authorization": f"token {token}"}
        assert httpx.get(f"{hub.url}/hub/api/user", headers=headers, trust_env=False).is_success
        assert linus.browser.api(f"/users/{linus.name}/server", "POST").is_success
        wait_until(lambda: hub.has_running_server(linus.name), SERVER_SECONDS, "the server to start")

        realm.leave_group(linus.id, "staff")

        event = wait_until_out(hub, linus)
        assert "no rule lets the account in any more" in event["details"]["reason"]
        assert not hub.has_running_server(linus.name)
        assert httpx.get(f"{hub.url}/hub/api/user", headers=headers, trust_env=False).status_code == 403
        assert not linus.browser.is_logged_in()
        # Still the issuer's account, but none that the rules let in.
        assert come_back(linus.browser, linus.keycloak, "linus").status_code == 403


def test_whom_keycloak_disables_is_out(hub, realm):
    with logged_in(hub, realm, "barbara") as barbara:
        realm.change_person(barbara.id, enabled=False)

        assert "invalid_grant" in wait_until_out(hub, barbara)["details"]["reason"]
        assert refused_refreshes(realm, barbara)
        assert not barbara.browser.is_logged_in()


def test_whose_sessions_keycloak_ends_is_out_until_the_next_login(hub, realm):
    with logged_in(hub, realm, "edsger") as edsger:
        realm.end_sessions(edsger.id)

        assert "invalid_grant" in wait_until_out(hub, edsger)["details"]["reason"]
        assert not edsger.browser.is_logged_in()
        assert come_back(edsger.browser, edsger.keycloak, "edsger").status_code == 302
        assert edsger.browser.api("/user").json()["name"] == edsger.name


def test_a_logout_ends_the_session_at_keycloak(hub, realm):
    with logged_in(hub, realm, "donald") as donald:
        leave = donald.browser.get("/hub/logout").headers["location"]

        assert leave.startswith(f"{realm.issuer}/")
        assert donald.keycloak.log_out(leave) == f"{hub.url}/hub/login"
        assert donald.keycloak.asks_for_password(donald.browser.begin("oidc"))
        assert not donald.browser.is_logged_in()
        assert not sessions(realm, donald)
    assert events(hub, "logout", donald.name)
    assert not events(hub, "membership.revoked", donald.name)


def sessions(realm: Realm, person: Person) -> list[Any]:
    """What the person has at Keycloak, offline sessions included: they are what refresh tokens live in."""
    client = realm.get(f"/clients?clientId={CLIENT}")[0]["id"]
    offline = realm.get(f"/users/{person.id}/offline-sessions/{client}")
    return [*realm.get(f"/users/{person.id}/sessions"), *offline]


def test_a_logout_revokes_the_tokens_before_the_browser_leaves(hub, realm):
    with logged_in(hub, realm, "niklaus") as niklaus:
        assert sessions(realm, niklaus)
        niklaus.browser.get("/hub/logout")

        assert not sessions(realm, niklaus)


def test_while_keycloak_is_down_nobody_is_logged_out_and_logins_say_so(hub, realm):
    rotate_refresh_tokens(realm)
    with logged_in(hub, realm, "alan") as alan, hub.browser() as browser, ThreadPoolExecutor() as pool:
        callback = alan.keycloak.log_in(browser.begin("oidc"), "alan", PASSWORD)
        # A refresh that the outage interrupts may use its token up: this one begins between two.
        before = refreshes(realm, alan)
        wait_until(lambda: refreshes(realm, alan) > before, OUT_SECONDS, "a refresh")
        with realm.paused():
            coming_back = pool.submit(browser.finish, callback)
            wait_until(lambda: f"{alan.name} could not be checked again" in hub.log, 30, "the hub to notice")
            assert alan.browser.is_logged_in()
            refused = coming_back.result()
        assert refused.status_code == 503
        assert "Try again in a few minutes" in refused.text

        # What was asked during the outage has used no token up.
        before = refreshes(realm, alan)
        soon = UNANSWERED_SECONDS + OUT_SECONDS
        wait_until(lambda: refreshes(realm, alan) > before, soon, "Keycloak to be asked again")
        assert not refused_refreshes(realm, alan)
        assert alan.browser.is_logged_in()
        assert come_back(browser, alan.keycloak, "alan").status_code == 302
        assert browser.is_logged_in()
    assert not events(hub, "membership.revoked", alan.name)


def test_a_hub_that_starts_while_keycloak_is_down_says_so_and_keeps_people_logged_in(hub, realm):
    with logged_in(hub, realm, "ken") as ken, hub.browser() as browser:
        hub.stop()
        with realm.paused():
            hub.start()
            assert browser.get("/hub/login").status_code == 200
            answer = browser.get("/hub/oidc/login")
        assert answer.status_code == 503
        assert "Try again in a few minutes" in answer.text
        assert browser.begin("oidc").startswith(realm.issuer)
        assert ken.browser.is_logged_in()


def test_who_is_renamed_at_keycloak_keeps_the_name_in_the_hub(hub, realm):
    with logged_in(hub, realm, "countess") as ada, hub.browser() as browser, KeycloakBrowser() as keycloak:
        realm.change_person(ada.id, username="lovelace", email="lovelace@example.org")
        assert come_back(browser, keycloak, "lovelace").status_code == 302

        assert browser.api("/user").json()["name"] == ada.name
        assert ada.browser.is_logged_in()
    assert [each["details"]["login"] for each in events(hub, "login.succeeded", ada.name)] == ["countess", "lovelace"]


def test_keycloak_takes_no_login_without_the_proof_of_pkce(hub, realm):
    with hub.browser() as browser:
        address = httpx.URL(browser.begin("oidc"))
    answer = httpx.get(address.copy_remove_param("code_challenge"), trust_env=False)

    assert "code_challenge" in answer.headers["location"]
    assert "error=invalid_request" in answer.headers["location"]
