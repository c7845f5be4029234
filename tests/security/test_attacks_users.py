"""Attacks of people who may enter: linking what is not theirs, other people's servers, rights above their role."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from hub.identities import Identities
from tests.services.attacker import (
    SESSION,
    add_person,
    assert_refused,
    callback_of,
    flow_cookie,
    parameter,
    set_cookie,
)
from tests.services.browser import Browser, send
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.workbench import wait_until

pytestmark = pytest.mark.usefixtures("people_as_before")
PROVIDERS = ("github", "google", "oidc")
VICTIM = "gh-grace"
SOON_SECONDS = 30  # how long a user's server may believe what the hub has said before
ROLES = {"analyst": "anna", "engineer": "erin", "viewer": "vera"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[LoginHub]:
    folder, provider = tmp_path_factory.mktemp("hub"), IdentityProvider()
    for number, login in enumerate((*ROLES.values(), "ben", "olga"), 4001):
        mail = f"{login}@example.com"
        add_person(provider, login, number, mail=mail, hd="example.com", organizations={"example"})
    settings = {
        "WORKBENCH_LOGIN_ENGINEERS": "gh-erin",
        "WORKBENCH_LOGIN_VIEWERS": "gh-vera",
        "WORKBENCH_LOGIN_ADMINS": "gh-ada",
        "WORKBENCH_LOGIN_RECHECK_SECONDS": "5",
    }
    with provider, running_login_hub(folder, provider, providers=PROVIDERS, **settings) as hub:
        yield hub


@pytest.fixture(scope="module")
def victim(hub) -> Iterator[Browser]:
    """Grace, with a server that runs and a session at it."""
    with hub.browser() as browser:
        assert browser.login("github", person="grace").status_code == 200
        assert browser.api(f"/users/{VICTIM}/server", "POST", json={}).status_code in {201, 202}
        wait_until(lambda: hub.has_running_server(VICTIM), 90, "the victim's server")
        # Its pages begin a session there; its API asks for one.
        assert browser.follow(browser.get(f"/user/{VICTIM}/lab")).status_code == 200
        assert browser.get(f"/user/{VICTIM}/api/status").status_code == 200
        yield browser


@pytest.fixture(scope="module", params=ROLES)
def attacker(request, hub) -> Iterator[Browser]:
    with hub.browser() as browser:
        assert browser.login("github", person=ROLES[request.param]).status_code == 200
        yield browser


@pytest.fixture(scope="module")
def viewer(hub) -> Iterator[Browser]:
    with hub.browser() as browser:
        assert browser.login("github", person="vera").status_code == 200
        yield browser


# --- linking ---------------------------------------------------------------


def accounts_of(hub: LoginHub, name: str) -> list[tuple[str, str]]:
    found = Identities(hub.home / "hub" / "identities.sqlite").accounts_of(name)
    return [(each.provider, each.subject) for each in found]


def begin_link(browser: Browser, provider: str = "google") -> str:
    answer = browser.post(f"/hub/accounts/link/{provider}")
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def test_a_link_that_one_began_is_not_finished_by_another(hub, browser):
    browser.login("github", person="ben")
    address = begin_link(browser)
    with hub.browser() as fooled:
        fooled.login("github", person="anna")
        set_cookie(fooled, *flow_cookie(browser, "google", address))

        answer = fooled.finish(fooled.consent(address, "anna"))

        assert answer.status_code == 403
    assert accounts_of(hub, "gh-ben") == [("github", "4004")]
    assert accounts_of(hub, "gh-anna") == [("github", "4001")]


def test_an_account_of_another_person_is_not_linked(hub, browser):
    with hub.browser() as owner:
        owner.login("google", person="olga")
        name = owner.api("/user").json()["name"]
    browser.login("github", person="ben")

    answer = browser.finish(browser.consent(begin_link(browser), "olga"))

    assert answer.status_code == 409
    assert accounts_of(hub, name) == [("google", "4005")]
    assert ("google", "4005") not in accounts_of(hub, "gh-ben")


def test_an_account_that_no_rule_lets_in_is_not_linked(hub, browser):
    browser.login("github", person="ben")

    assert browser.finish(browser.consent(begin_link(browser), "mallory")).status_code == 403
    assert accounts_of(hub, "gh-ben") == [("github", "4004")]


@pytest.mark.parametrize("who", ["nobody", "somebody else"])
def test_a_link_is_no_login(hub, browser, who):
    browser.login("github", person="ben")
    address = begin_link(browser)
    cookie = flow_cookie(browser, "google", address)
    browser.logout()
    if who == "somebody else":
        browser.login("github", person="anna")
    set_cookie(browser, *cookie)

    answer = browser.finish(browser.consent(address, "ben"))

    assert answer.status_code == 403
    assert accounts_of(hub, "gh-ben") == [("github", "4004")]
    assert (SESSION in browser.cookies) is (who == "somebody else")


def test_a_login_is_no_link(hub, browser):
    browser.login("github", person="ben")

    browser.finish(callback_of(browser, "google", "ada"))

    assert accounts_of(hub, "gh-ben") == [("github", "4004")]
    assert browser.api("/user").json()["name"] != "gh-ben"


def test_a_link_works_once_and_only_at_its_provider(hub, browser):
    browser.login("github", person="ben")
    address = begin_link(browser, "oidc")
    cookie, callback = flow_cookie(browser, "oidc", address), browser.consent(address, "mallory")

    assert browser.finish(callback.replace("/oidc/", "/google/")).status_code == 400
    assert browser.finish(callback).status_code == 403
    set_cookie(browser, *cookie)
    assert browser.finish(browser.consent(address, "ben")).status_code == 400
    assert accounts_of(hub, "gh-ben") == [("github", "4004")]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_link_begins_with_a_form_alone(browser, method):
    browser.login("github", person="ben")

    answer = browser.client.request(method, "/hub/accounts/link/google", headers={"X-XSRFToken": browser.xsrf()})

    assert answer.status_code == 405
    assert not [name for name in browser.cookies if name.startswith("login-google")]


def test_nobody_links_without_a_login(browser):
    browser.get("/hub/login")

    answer = browser.post("/hub/accounts/link/google")

    assert answer.status_code in {302, 403}
    assert urlsplit(answer.headers.get("location", "/hub/login")).path == "/hub/login"


# --- one against another ---------------------------------------------------

AGAINST_OTHERS = [
    *(f"GET {path}" for path in ("/hub/api/users", "/hub/api/users/{victim}", "/hub/api/users/{victim}/tokens")),
    "POST /hub/api/users/{victim}/tokens",
    "POST /hub/api/users/{victim}/server",
    "DELETE /hub/api/users/{victim}/server",
    "POST /hub/api/users/{victim}/servers/x",
    "DELETE /hub/api/users/{victim}/servers/x",
    "GET /hub/api/users/{victim}/server/progress",
    "POST /hub/api/users/{victim}/activity",
    "POST /hub/api/users/{victim}/admin-access",
    "PATCH /hub/api/users/{victim}",
    "DELETE /hub/api/users/{victim}",
    "POST /hub/api/users",
    "POST /hub/api/users/evil",
    "GET /hub/api/users/{victim}/shared",
    "GET /hub/api/shares/{victim}/",
    "POST /hub/api/shares/{victim}/",
    "DELETE /hub/api/shares/{victim}/",
    "GET /hub/api/share-codes/{victim}/",
    "POST /hub/api/share-codes/{victim}/",
    "GET /hub/api/groups",
    "POST /hub/api/groups/evil",
    "POST /hub/api/groups/engineers/users",
    "PUT /hub/api/groups/engineers/properties",
    "DELETE /hub/api/groups/engineers",
    "GET /hub/api/proxy",
    "POST /hub/api/proxy",
    "PATCH /hub/api/proxy",
    "POST /hub/api/shutdown",
    "GET /hub/api/info",
    "GET /hub/api/services",
    "GET /hub/api/metrics",
    "GET /hub/metrics",
    "GET /hub/admin",
    "GET /hub/status",
    "GET /hub/api/workbench/status",
    "POST /hub/api/workbench/users/{victim}/offboard",
    "GET /hub/spawn/{victim}",
    "POST /hub/spawn/{victim}",
    "GET /hub/spawn-pending/{victim}",
    "GET /hub/accept-share?code=x",
]
AT_A_SERVER = [
    f"{method} /user/{{victim}}{path}"
    for method, path in (
        ("GET", "/api/contents"),
        ("GET", "/api/kernels"),
        ("POST", "/api/kernels"),
        ("POST", "/api/terminals"),
        ("GET", "/api/sessions"),
        ("GET", "/api/me"),
        ("GET", "/lab"),
        ("GET", "/files/x"),
        ("GET", "/api/kernels/x/channels"),
        ("GET", "/terminals/websocket/1"),
        ("GET", "/metrics"),
        ("PUT", "/api/contents/evil.ipynb"),
        ("POST", "/api/shutdown"),
        ("GET", "/..%2f{me}/../{victim}/api/contents"),
    )
]


def names_of(browser: Browser) -> dict[str, str]:
    return {"victim": VICTIM, "me": browser.api("/user").json()["name"]}


@pytest.mark.parametrize("attack", AGAINST_OTHERS)
def test_nobody_does_at_the_hub_what_is_anothers_or_an_administrators(hub, victim, attacker, attack):
    method, path = attack.format(**names_of(attacker)).split()
    own = attacker.api(f"/users/{names_of(attacker)['me']}/tokens", "POST", json={"expires_in": 60}).json()["token"]
    headers = {"X-XSRFToken": attacker.xsrf()}

    by_cookie = attacker.client.request(method, path, headers=headers, json={} if method != "GET" else None)
    by_token = send(method, f"{hub.url}{path}", token=own)

    for answer in (by_cookie, by_token):
        if path in {"/hub/api/groups", "/hub/api/services"} and answer.status_code == 200:
            assert answer.json() in ({}, [])
        elif answer.has_redirect_location:
            assert urlsplit(answer.headers["location"]).path == "/hub/login"  # a page, with a token alone
        else:
            assert answer.status_code in {403, 404, 405}, answer.text[:300]
    assert hub.has_running_server(VICTIM)


@pytest.mark.parametrize("attack", AT_A_SERVER)
def test_nobody_reaches_anothers_server(hub, victim, attacker, attack):
    names = names_of(attacker)
    method, path = attack.format(**names).split()
    token = attacker.api(f"/users/{names['me']}/tokens", "POST", json={"expires_in": 60}).json()["token"]
    socket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade = {**socket, "Sec-WebSocket-Key": "eA==" * 6} if "channels" in path or "websocket" in path else {}

    by_cookie = attacker.follow(attacker.client.request(method, f"{hub.url}{path}", headers=upgrade), "")
    by_token = send(method, f"{hub.url}{path}", token=token, headers=upgrade)
    in_url = send(method, f"{hub.url}{path}", params={"token": token}, headers=upgrade)

    assert by_cookie.status_code in {403, 404, 405}, by_cookie.text[:300]
    for answer in (by_token, in_url):
        is_sent_away = answer.has_redirect_location and "/hub/" in answer.headers["location"]
        assert answer.status_code in {403, 404, 405} or is_sent_away, answer.text[:300]
    assert hub.has_running_server(VICTIM)


@pytest.mark.parametrize("name", ["token", "access_token", "auth_token"])
def test_the_owners_token_in_a_url_does_not_open_the_server(hub, victim, name):
    token = victim.api(f"/users/{VICTIM}/tokens", "POST", json={"expires_in": 60}).json()["token"]
    path = f"{hub.url}/user/{VICTIM}/api/contents"

    assert send("GET", path, token=token).status_code == 200
    assert send("GET", path, params={name: token}).status_code in {302, 403}


def test_the_code_of_ones_own_server_does_not_open_anothers(hub, victim, browser):
    browser.login("github", person="ben")
    away = browser.get(f"/user/{VICTIM}/api/contents", headers={"Accept": "text/html"})
    while away.has_redirect_location and "oauth2/authorize" not in away.headers["location"]:
        away = browser.get(away.headers["location"])
    state = parameter(away.headers["location"], "state") if away.has_redirect_location else "x"

    answer = browser.get(f"/user/{VICTIM}/oauth_callback", params={"code": "x", "state": state})

    assert answer.status_code in {400, 403, 500}
    assert browser.get(f"/user/{VICTIM}/api/contents").status_code in {302, 403}


@pytest.mark.parametrize(
    "change",
    [
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": "/user/gh-ben/oauth_callback"},
        {"redirect_uri": "//evil.example/user/gh-grace/oauth_callback"},
        {"redirect_uri": "/user/gh-grace/oauth_callback/../../gh-ben"},
        {"redirect_uri": "javascript:alert(1)"},
        {"code_challenge": None},
        {"client_id": "jupyterhub-user-nobody"},
        {"client_id": None},
        {"response_type": "token"},
        {"scope": "admin:users"},
    ],
    ids=repr,
)
def test_the_hubs_own_authorization_leads_nowhere_else(hub, victim, change):
    query = {
        "client_id": f"jupyterhub-user-{VICTIM}",
        "redirect_uri": f"/user/{VICTIM}/oauth_callback",
        "response_type": "code",
        "state": "x",
        "code_challenge": "A" * 43,
        "code_challenge_method": "S256",
    }
    asked = {name: value for name, value in {**query, **change}.items() if value is not None}

    answer = victim.get("/hub/api/oauth2/authorize", params=asked)

    goal = answer.headers.get("location", "")
    assert answer.status_code < 500
    assert "code=" not in goal
    assert urlsplit(goal).netloc in {"", urlsplit(hub.url).netloc}
    assert "evil.example" not in goal


# --- rights above the role -------------------------------------------------


@pytest.mark.parametrize(
    "attempt",
    [
        "POST /hub/api/users/gh-vera/server",
        "POST /hub/api/users/gh-vera/servers/other",
        "GET /hub/spawn",
        "GET /hub/spawn/gh-vera",
        "GET /hub/spawn/gh-vera/other",
        "POST /hub/spawn",
        "POST /hub/spawn/gh-vera",
        "GET /hub/user-redirect/lab",
        "GET /user/gh-vera/lab",
        "GET /hub/user/gh-vera/lab",
    ],
)
def test_a_viewer_starts_no_server(hub, viewer, attempt):
    method, path = attempt.split()
    answer = viewer.client.request(
        method,
        path,
        headers={"X-XSRFToken": viewer.xsrf()},
        data={"_xsrf": viewer.xsrf()} if method == "POST" else None,
    )
    viewer.follow(answer)
    token = viewer.api("/users/gh-vera/tokens", "POST", json={"expires_in": 60}).json()["token"]
    send(method, f"{hub.url}{path}", token=token)

    model = hub.api("/users/gh-vera").json()
    assert model["servers"] == {}
    assert model["pending"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"roles": ["admin"]},
        {"roles": ["workbench-engineer"]},
        {"scopes": ["admin:users"]},
        {"scopes": ["servers!user"]},
        {"scopes": ["access:servers"]},
        {"scopes": ["self", "admin-ui"]},
        {"scopes": ["custom:workbench:people"]},
        {"scopes": ["inherit"]},
    ],
    ids=repr,
)
def test_no_token_may_more_than_its_owner(hub, viewer, body):
    answer = viewer.api("/users/gh-vera/tokens", "POST", json={**body, "expires_in": 60})

    if answer.status_code == 201:
        for method, path in (("GET", "/users"), ("POST", "/users/gh-vera/server"), ("POST", "/users/evil")):
            done = send(method, f"{hub.url}/hub/api{path}", token=answer.json()["token"])
            assert done.status_code in {403, 404}
    else:
        assert answer.status_code in {400, 403}


@pytest.mark.parametrize("person", ["anna", "erin", "vera"])
def test_cve_2024_41942_nobody_makes_themselves_an_administrator(hub, browser, person):
    browser.login("github", person=person)
    name = f"gh-{person}"

    assert browser.api(f"/users/{name}", "PATCH", json={"admin": True}).status_code in {403, 404}
    assert browser.api(f"/users/{name}", "PATCH", json={"name": "gh-ada"}).status_code in {403, 404}
    assert browser.api("/users", "POST", json={"usernames": ["made-up"], "admin": True}).status_code == 403
    assert browser.api("/groups/admins/users", "POST", json={"users": [name]}).status_code in {403, 404}

    assert hub.api(f"/users/{name}").json()["admin"] is False
    assert hub.api("/users/made-up").status_code == 404


def test_ghsa_c4gm_a_member_shares_nothing_that_they_may_not(hub, victim):
    answer = victim.api(f"/share-codes/{VICTIM}/", "POST", json={"scopes": ["access:servers", "admin:users"]})

    assert answer.status_code in {400, 403}
    assert hub.api(f"/shares/{VICTIM}/").json().get("items", []) == []


# --- people who had to go --------------------------------------------------


def test_cve_2021_41247_after_a_logout_the_server_is_closed_too(hub, victim, browser):
    browser.login("github", person="grace")
    assert browser.follow(browser.get(f"/user/{VICTIM}/lab")).status_code == 200
    assert browser.get(f"/user/{VICTIM}/api/status").status_code == 200

    browser.logout()

    assert browser.get(f"/user/{VICTIM}/api/status").status_code in {302, 403}


@pytest.fixture(scope="module")
def revoked_token(hub, victim) -> str:
    """A token that the server knew."""
    with hub.browser() as browser:
        browser.login("github", person="grace")
        made = browser.api(f"/users/{VICTIM}/tokens", "POST", json={"expires_in": 3600}).json()
        assert send("GET", f"{hub.url}/user/{VICTIM}/api/status", token=made["token"]).status_code == 200
        assert browser.api(f"/users/{VICTIM}/tokens/{made['id']}", "DELETE").status_code == 204
    return str(made["token"])


# Both at once: the server believes for a while what it has heard.
def test_cve_2021_41247_after_a_logout_copied_cookies_open_the_server_no_longer(hub, victim, browser, revoked_token):
    browser.login("github", person="grace")
    browser.follow(browser.get(f"/user/{VICTIM}/lab"))
    with hub.browser() as thief:
        for each in browser.cookies.jar:
            set_cookie(thief, each.name, each.value or "", path=each.path)
        assert thief.get(f"/user/{VICTIM}/api/status").status_code == 200
        browser.logout()

        wait_until(lambda: thief.get(f"/user/{VICTIM}/api/status").status_code != 200, SOON_SECONDS, "the server")


def test_a_revoked_token_does_not_open_the_server(hub, victim, revoked_token):
    address = f"{hub.url}/user/{VICTIM}/api/status"

    wait_until(lambda: send("GET", address, token=revoked_token).status_code != 200, SOON_SECONDS, "the server")


def test_after_a_logout_a_copied_session_is_worth_nothing(hub, browser):
    browser.login("github", person="ben")
    kept = browser.cookies[SESSION]
    browser.logout()

    with hub.browser() as thief:
        set_cookie(thief, SESSION, kept)
        assert not thief.is_logged_in()


def test_whoever_was_off_boarded_gets_in_through_no_account(hub, browser):
    browser.login("github", person="olga")
    name = browser.api("/user").json()["name"]
    browser.finish(browser.consent(begin_link(browser, "oidc"), "olga"))
    token = browser.api(f"/users/{name}/tokens", "POST", json={"expires_in": 3600}).json()["token"]
    store = Identities(hub.home / "hub" / "identities.sqlite")
    store.block(name)
    deadline = time.monotonic() + 60
    while browser.is_logged_in():
        assert time.monotonic() < deadline, "still logged in"

    assert send("GET", f"{hub.url}/hub/api/user", token=token).status_code == 403
    with hub.browser() as again:
        assert_refused(again, again.login("github", person="olga"), 403)
    store.unblock(name)


def test_who_was_removed_and_added_again_has_the_old_name_and_no_old_token(hub, provider, browser):
    browser.login("github", person="ben")
    token = browser.api("/users/gh-ben/tokens", "POST", json={"expires_in": 3600}).json()["token"]
    provider.person("ben").organizations.clear()
    wait_until(lambda: not browser.is_logged_in(), 60, "ben to be out")
    with hub.browser() as refused:
        assert_refused(refused, refused.login("github", person="ben"), 403)
    provider.person("ben").organizations.add("example")

    with hub.browser() as again:
        assert again.login("github", person="ben").status_code == 200
        assert again.api("/user").json()["name"] == "gh-ben"
    assert not browser.is_logged_in()
    assert send("GET", f"{hub.url}/hub/api/user", token=token).status_code == 403
