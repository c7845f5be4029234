"""Attacks on the hub's pages and API: XSRF on every route, tossed cookies, tokens in URLs, CORS, sizes, bad text."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jupyterhub import apihandlers, handlers
from tornado.web import RequestHandler

from hub.authentication.handlers import login_handlers
from tests.services.attacker import SESSION, callback_of, set_cookie
from tests.services.browser import Browser, send
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub

pytestmark = pytest.mark.usefixtures("people_as_before")
VICTIM = "gh-ada"  # an administrator: may do everything, if only she is made to
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
# They take no cookie for who somebody is, or do nothing at all.
OPEN_ROUTES = {
    "POST /hub/api/oauth2/token": {400, 401, 403},  # asks for the secret of a client
    "POST /hub/api/authorizations/token": {404},
    f"POST /hub/api/authorizations/token/{VICTIM}": {404, 500},  # JupyterHub has nothing there any more
    f"POST /hub/api/users/{VICTIM}/tokens": {400, 403},  # reads the body first
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[LoginHub]:
    """A hub of this module alone: what its logs hold is looked at in the end."""
    folder = tmp_path_factory.mktemp("hub")
    with IdentityProvider() as provider, running_login_hub(folder, provider, WORKBENCH_LOGIN_ADMINS=VICTIM) as hub:
        yield hub


@pytest.fixture(scope="module")
def victim(hub) -> Iterator[Browser]:
    with hub.browser() as browser:
        assert browser.login("github", person="ada").status_code == 200
        yield browser


@pytest.fixture(scope="module")
def attacker(hub) -> Iterator[Browser]:
    with hub.browser() as browser:
        assert browser.login("github", person="grace").status_code == 200
        yield browser


# --- XSRF ------------------------------------------------------------------


def _path(pattern: str) -> str:
    """An address that a handler's pattern matches, with the victim as its first part."""
    parts = iter((VICTIM, "x", "y"))
    plain = pattern.replace("(?P<user_path>/.*)?", "/lab").replace("(?:/([^/]+))?", "").rstrip("$")
    return "/hub" + re.sub(r"\((?:\?P<\w+>)?(\[\^/\][+*]|\\d\+|\.\*)\)\??", lambda _: next(parts), plain)


def _changing_routes() -> list[str]:
    ours = [
        *login_handlers([]),
        (r"/accounts/link/github", type("Link", (), {"post": None})),
        (r"/accounts/link/google", type("Link", (), {"post": None})),
    ]
    known = [*handlers.default_handlers, *apihandlers.default_handlers, *ours]
    return sorted(
        {
            f"{method} {_path(pattern)}"
            for pattern, handler, *_ in known
            for method in CHANGING
            if getattr(handler, method.lower(), RequestHandler.post) is not RequestHandler.post
            and getattr(handler, method.lower(), None) is not getattr(RequestHandler, method.lower())
        }
    )


def _state(hub: LoginHub) -> Any:
    """What an attack would want to change."""
    users = [
        {key: each[key] for key in ("name", "admin", "groups", "servers", "pending")}
        for each in hub.api("/users").json()
    ]
    tokens = [each["id"] for each in hub.api(f"/users/{VICTIM}/tokens").json()["api_tokens"]]
    return users, tokens, [each["name"] for each in hub.api("/groups").json()]


FORGERIES: dict[str, dict[str, Any]] = {
    "a form": {"data": {"name": "x"}},
    "JSON as text, which needs no preflight": {
        "content": b'{"usernames":["evil"],"admin":true}',
        "headers": {"Content-Type": "text/plain"},
    },
    "JSON": {"json": {"users": ["evil"], "admin": True}},
    "a navigation from another site": {
        "data": {"x": "y"},
        "headers": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Origin": "https://evil.example"},
    },
    "a fetch from another site": {
        "json": {},
        "headers": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Origin": "https://evil.example"},
    },
    "a fetch that claims to be a WebSocket": {"json": {}, "headers": {"Sec-Fetch-Mode": "no-cors"}},
    "an empty token": {"data": {"_xsrf": ""}, "headers": {"X-XSRFToken": ""}},
    "a made-up token": {"data": {"_xsrf": "x"}, "headers": {"X-XSRFToken": "x"}},
    "a method override": {"headers": {"X-HTTP-Method-Override": "GET", "X-Method-Override": "GET"}},
}


@pytest.mark.parametrize("route", _changing_routes())
def test_no_other_site_changes_anything(hub, victim, attacker, route):
    method, path = route.split()
    before = _state(hub)
    foreign = {"headers": {"X-XSRFToken": attacker.xsrf()}, "params": {"_xsrf": attacker.xsrf()}}

    for name, forgery in {**FORGERIES, "a token of the attacker": foreign}.items():
        answer = victim.client.request(method, path, **forgery)
        assert answer.status_code in OPEN_ROUTES.get(route, {403}), f"{name}: {answer.status_code} {answer.text[:300]}"

    assert _state(hub) == before
    assert victim.is_logged_in()


def test_the_victim_could_have_done_it(hub, victim):
    """The forgeries fail for the missing token, and for nothing else."""
    assert victim.api("/groups/made-by-ada", "POST", json={}).status_code == 201
    assert victim.api("/groups/made-by-ada", "DELETE").status_code == 204


@pytest.mark.parametrize("fetch", ["navigate", "no-cors", "cors"])
def test_another_site_logs_nobody_out(victim, fetch):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": fetch, "Referer": "https://evil.example/"}

    assert victim.get("/hub/logout", headers=headers).status_code == 403
    assert victim.is_logged_in()


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
@pytest.mark.parametrize("path", ["/hub/api/user", "/hub/api/users", f"/hub/api/users/{VICTIM}/tokens", "/hub/home"])
def test_no_other_site_reads_with_the_victims_cookies(victim, path, mode):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Origin": "https://evil.example"}

    answer = victim.get(path, headers=headers)

    # Pages are for navigations too: what keeps them from others are the headers.
    assert answer.status_code == 403 or path == "/hub/home"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers


# --- cookies ---------------------------------------------------------------


def cookie_header(*browsers: Browser, **also: str) -> str:
    pairs = [(each.name, each.value) for browser in browsers for each in browser.cookies.jar]
    return "; ".join(f"{name}={value}" for name, value in [*pairs, *also.items()])


def raw(
    hub: LoginHub, cookies: str, path: str = "/hub/api/user", method: str = "GET", **options: Any
) -> httpx.Response:
    also = [(name.encode(), value.encode()) for name, value in options.pop("headers", {}).items()]
    headers = [(b"cookie", cookies.encode()), *also]
    return send(method, f"{hub.url}{path}", headers=headers, **options)


@pytest.mark.parametrize("first", ["attacker", "victim"])
def test_cve_2024_28233_a_tossed_xsrf_cookie_forges_nothing(hub, victim, attacker, first):
    own, tossed = f"_xsrf={victim.xsrf()}", f"_xsrf={attacker.xsrf()}"
    session = f"{SESSION}={victim.cookies[SESSION]}; jupyterhub-session-id={victim.cookies['jupyterhub-session-id']}"
    cookies = "; ".join([session, *((tossed, own) if first == "attacker" else (own, tossed))])
    before = _state(hub)

    for path in ("/hub/api/groups/forged", f"/hub/api/users/{VICTIM}/tokens"):
        answer = raw(hub, cookies, path, "POST", json={}, headers={"X-XSRFToken": attacker.xsrf()})
        assert answer.status_code == 403

    assert _state(hub) == before


def test_cve_2026_40864_an_anonymous_xsrf_token_is_none_of_a_member(hub, victim, browser):
    browser.get("/hub/login")
    session = f"{SESSION}={victim.cookies[SESSION]}; jupyterhub-session-id={victim.cookies['jupyterhub-session-id']}"

    answer = raw(
        hub,
        f"{session}; _xsrf={browser.xsrf()}",
        "/hub/api/groups/forged",
        "POST",
        json={},
        headers={"X-XSRFToken": browser.xsrf()},
    )

    assert answer.status_code == 403


def test_a_session_id_that_an_attacker_has_fixed_is_of_no_use(hub, attacker):
    fixed = attacker.cookies["jupyterhub-session-id"]
    with hub.browser() as fooled:
        set_cookie(fooled, "jupyterhub-session-id", fixed, path="/")
        fooled.login("github", person="ada")

        # With it the attacker is nobody else, forges nothing, and logs nobody else out.
        assert raw(hub, f"jupyterhub-session-id={fixed}").status_code == 403
        assert raw(hub, cookie_header(attacker)).json()["name"] == "gh-grace"
        forged = fooled.api("/groups/forged", "POST", headers={"X-XSRFToken": attacker.xsrf()}, json={})
        assert forged.status_code == 403
        with hub.browser() as other:
            other.login("github", person="grace")
            set_cookie(other, "jupyterhub-session-id", fixed, path="/")
            other.logout()
        assert fooled.is_logged_in()


@pytest.mark.parametrize(
    "value",
    ["", "x", "gh-ada", "2|1:0|10:1|20:jupyterhub-hub-login|4:eA==|" + "0" * 64, "A" * 4000, "%00", "\u00e9", '"'],
    ids=["empty", "letter", "name", "signed by nobody", "4 kB", "NUL", "accent", "quote"],
)
def test_a_made_up_session_is_nobody(hub, value):
    for name in (SESSION, f"__Host-{SESSION}", "jupyterhub-services", "jupyterhub-session-id"):
        answer = raw(hub, f"{name}={value}")
        assert answer.status_code == 403, name


@pytest.mark.parametrize("order", ["garbage first", "garbage last"])
def test_two_session_cookies_are_no_error(hub, victim, order):
    good, bad = f"{SESSION}={victim.cookies[SESSION]}", f"{SESSION}=x"

    answer = raw(hub, "; ".join((bad, good) if order == "garbage first" else (good, bad)))

    assert answer.status_code in {200, 403}


def test_a_flood_of_flow_cookies_keeps_nobody_from_logging_in(browser):
    for number in range(40):
        set_cookie(browser, f"login-github-{number:043d}", "x" * 400)

    assert browser.login("github", person="grace").status_code == 200

    assert len([name for name in browser.cookies if name.startswith("login-")]) <= 8


@pytest.mark.parametrize("name", ["login-", "login-github-", "login-{}", "login-a b", "login-é", "login-github-;"])
def test_odd_flow_cookies_keep_nobody_from_logging_in(hub, name):
    odd = "; ".join(f"{name}{number}=x" for number in range(12)).encode()

    answer = send("GET", f"{hub.url}/hub/github/login", headers=[(b"cookie", odd)])

    assert answer.status_code == 302


def test_an_attackers_flow_does_not_link_or_log_in_with_the_victims_session_kept(hub, browser):
    """Login CSRF with a tossed cookie cannot be told from a login; it must not act as the victim."""
    browser.login("github", person="ada")
    with hub.browser() as mine:
        callback = callback_of(mine, "github", "grace")
        (flow,) = [(name, value) for name, value in mine.cookies.items() if name.startswith("login-")]
    set_cookie(browser, *flow)

    browser.finish(callback)

    assert raw(hub, cookie_header(browser)).json()["name"] == "gh-grace"
    assert browser.get("/hub/admin").status_code == 403


def test_with_subdomains_no_users_origin_can_set_the_cookie_of_a_flow(subdomain_hub):
    """A user's server is a sibling host then; only `__Host-` cookies are out of its reach (RFC 6265bis §4.1.3.2)."""
    with subdomain_hub.client() as client:
        client.get("/hub/login")
        answer = client.get("/hub/github/login")

        flows = [each for each in answer.headers.get_list("set-cookie") if "login-github-" in each]
        assert len(flows) == 1
        assert flows[0].startswith("__Host-")
        subdomain_hub.log_in(client)


def test_cookies_are_out_of_scripts_reach_and_stay_here(hub, browser):
    answers = [browser.get("/hub/github/login")]
    answers += browser.login("github", person="grace").history

    made = [each for answer in answers for each in answer.headers.get_list("set-cookie")]
    kept = [each for each in made if '=""' not in each]
    assert {each.partition("=")[0] for each in kept} > {"_xsrf", "jupyterhub-session-id"}
    for each in kept:
        assert "samesite=lax" in each.lower(), each
        assert "httponly" in each.lower() or each.startswith("_xsrf="), each
        assert "domain=" not in each.lower(), each


# --- tokens ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["token", "auth_token", "access_token", "api_token", "authorization", "Authorization"])
@pytest.mark.parametrize("path", ["/hub/api/user", "/hub/api/users", "/hub/home"])
def test_a_token_in_the_url_opens_nothing(hub, victim, name, path):
    token = victim.api(f"/users/{VICTIM}/tokens", "POST", json={"expires_in": 60}).json()["token"]

    for options in ({"params": {name: token}}, {"headers": {"Cookie": f"{name}={token}"}}):
        answer = send("GET", f"{hub.url}{path}", **options)
        assert answer.status_code in {302, 403}
    posted = send("POST", f"{hub.url}/hub/api/users", data={name: token, "usernames": "evil"})
    assert posted.status_code == 403


@pytest.mark.parametrize("seconds", [0, -1, 90 * 86400 + 1, 10**30, 1.5, "60", True, [60], {}], ids=repr)
def test_no_token_lives_longer_than_the_hub_allows(victim, seconds):
    answer = victim.api(f"/users/{VICTIM}/tokens", "POST", json={"expires_in": seconds})

    if answer.status_code == 201:
        assert answer.json()["expires_at"] is not None
        assert seconds is True  # a number to Python: one second
    else:
        assert answer.status_code == 400


def test_a_token_with_no_lifetime_gets_the_longest(victim):
    answer = victim.api(f"/users/{VICTIM}/tokens", "POST", json={}).json()

    assert answer["expires_at"] is not None


def test_an_expired_token_is_worth_nothing(hub, victim):
    token = victim.api(f"/users/{VICTIM}/tokens", "POST", json={"expires_in": 1}).json()["token"]
    deadline = time.monotonic() + 20

    while send("GET", f"{hub.url}/hub/api/user", token=token).status_code != 403:
        assert time.monotonic() < deadline, "still good"


@pytest.mark.parametrize("scheme", ["token", "Bearer", "Basic", "token\t", "Negotiate"])
@pytest.mark.parametrize("value", ["", "x", "null", "undefined", "None", "A" * 8000, "' OR 1=1 --", "é"])
def test_a_made_up_token_is_nobody(hub, scheme, value):
    headers = [(b"authorization", f"{scheme} {value}".strip().encode())]

    assert send("GET", f"{hub.url}/hub/api/users", headers=headers).status_code in {400, 403}


@pytest.mark.parametrize(
    "auth", [{"username": VICTIM, "password": ""}, VICTIM, {"name": VICTIM}, ["x"], 1, {}], ids=repr
)
def test_no_name_in_a_body_gives_a_token(hub, auth):
    answer = send("POST", f"{hub.url}/hub/api/users/{VICTIM}/tokens", json={"auth": auth})

    assert answer.status_code == 403


@pytest.mark.parametrize("form", [{"username": VICTIM, "password": "x"}, {"username": VICTIM}], ids=repr)
def test_no_form_logs_anybody_in(browser, form):
    browser.get("/hub/login")

    answer = browser.post("/hub/login", form)

    assert answer.status_code == 403
    assert SESSION not in browser.cookies


# --- CORS ------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "{url}.evil.example",
        "{url}0",
        "{url}/",
        "{url},https://evil.example",
        "https://{host}",
        "http://evil.{host}",
        "http://x@{host}",
        "{URL}",
        "http://localhost:{port}",
        "http://127.0.0.1",
        "file://",
        "*",
    ],
)
def test_cve_2026_40110_no_origin_that_resembles_ours_may_call(hub, victim, origin):
    host = hub.url.partition("//")[2]
    names = {"url": hub.url, "URL": hub.url.upper(), "host": host, "port": host.rpartition(":")[2]}
    headers = {"Origin": origin.format(**names)}

    for path in ("/hub/api/user", "/hub/home", "/hub/nowhere"):
        answer = victim.get(path, headers=headers)
        assert "access-control-allow-origin" not in answer.headers
        asked = {**headers, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "x-xsrftoken"}
        preflight = victim.client.options(path, headers=asked)
        assert "access-control-allow-origin" not in preflight.headers


# --- sizes and bad text ----------------------------------------------------

BAD_JSON = {
    "no UTF-8": b'{"note":"\xff\xfe"}',
    "UTF-16": '{"note":"x"}'.encode("utf-16"),
    "half a surrogate": b'{"note":"\\ud800"}',
    "cut off": b'{"note":',
    "NUL": b'{"note":"\\u0000"}',
    "a list": b"[]",
    "text": b'"x"',
    "a number": b"1",
    "true": b"true",
    "nested deeply": b"[" * 100_000,
    "a number beyond all": b'{"expires_in":1e999}',
    "no number": b'{"expires_in":NaN}',
    "a number of 10,000 digits": b'{"expires_in":' + b"9" * 10_000 + b"}",
    "a note that is an object": b'{"note":{}}',
    "roles that are numbers": b'{"roles":[1]}',
    "scopes that are unknown": b'{"scopes":["x"]}',
    "a scope with a line end": b'{"scopes":["read:users\\r\\nx"]}',
    "XML": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
}


@pytest.mark.parametrize("case", BAD_JSON)
@pytest.mark.parametrize(
    "path", [f"/users/{VICTIM}/tokens", "/users", "/groups", "/groups/x/users", f"/users/{VICTIM}/activity"]
)
def test_bad_json_is_a_bad_request_and_no_error_of_the_hub(hub, victim, path, case):
    answer = victim.api(path, "POST", content=BAD_JSON[case], headers={"Content-Type": "application/json"})

    assert answer.status_code < 500, answer.text[:300]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "name",
    ["x" * 10_000, "é" * 500, "a\r\nb", "a\0b", "..", "a/b", "%2e%2e", "", " ", "<script>", "{{7*7}}"],
    ids=lambda name: repr(name[:12]),
)
def test_odd_names_are_nobody(victim, name):
    quoted = httpx.QueryParams({"n": name})
    answer = victim.api(f"/users/{str(quoted)[2:]}")

    assert answer.status_code in {400, 403, 404, 414, 431, 200}
    if answer.status_code == 200:
        assert name in {"", ".."}  # the list itself, which she may see
    assert "<script>" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Long": "x" * 100_000},
        {"Cookie": "x=" + "y" * 100_000},
        {"Cookie": "; ".join(f"c{number}=x" for number in range(5000))},
        {"Referer": "https://evil.example/" + "x" * 50_000},
        {"User-Agent": "x" * 60_000},
        {f"X-{number}": "x" for number in range(2000)},
        {"Authorization": "token " + "x" * 60_000},
        {"Accept-Language": "x," * 30_000},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_oversized_headers_are_refused_and_the_hub_lives_on(hub, headers):
    try:
        answer = send("GET", f"{hub.url}/hub/api/users", headers=headers, timeout=30)
        assert answer.status_code in {400, 403, 413, 431, 502}
    except httpx.TransportError:
        pass  # hung up on, which is a refusal too
    assert hub.is_healthy()


@pytest.mark.parametrize("path", ["/hub/login", "/hub/github/login", "/hub/github/callback", "/hub/api/users"])
def test_oversized_queries_are_no_error(hub, path):
    answer = send("GET", f"{hub.url}{path}?next=/{'x' * 50_000}", timeout=30)

    assert answer.status_code < 500
    assert hub.is_healthy()


def test_an_oversized_body_is_no_error(hub, victim):
    answer = victim.api(f"/users/{VICTIM}/tokens", "POST", content=b'{"note":"' + b"x" * 20_000_000 + b'"}')

    assert answer.status_code in {400, 413}
    assert hub.is_healthy()


# --- logs ------------------------------------------------------------------

FORGED = "2026-01-01T00:00:00.000Z INFO hub[1] JupyterHub: User logged in: forged"


def forged_lines(hub: LoginHub) -> list[str]:
    audit = (hub.home / "audit" / "events.jsonl").read_text().splitlines()
    assert all(json.loads(line)["event"]["metadata"]["uid"] for line in audit)
    return [line for line in hub.log.splitlines() if line.startswith(FORGED)]


@pytest.mark.parametrize("where", ["login", "form", "error", "report", "path", "next"])
def test_nobody_writes_lines_of_the_log(hub, provider, victim, browser, where):
    text = f"x\r\n{FORGED}\r\n"
    if where == "login":
        provider.person("mallory").login = text
        provider.current_person = provider.person(text)
        browser.login("github")
    elif where == "form":
        browser.get("/hub/login")
        browser.post("/hub/login", {"username": text, "password": text})
    elif where == "error":
        browser.get("/hub/github/callback", params={"error": text, "state": text})
    elif where == "report":
        report = {"X-XSRFToken": victim.xsrf(), "Content-Type": "application/csp-report"}
        assert victim.client.post("/hub/security/csp-report", content=text.encode(), headers=report).status_code < 400
    elif where == "path":
        browser.get("/hub/" + str(httpx.QueryParams({"x": text})))
    else:
        browser.get("/hub/github/login", params={"next": f"https://evil.example/{text}"})

    assert forged_lines(hub) == []


@pytest.mark.parametrize("where", ["login", "form", "state"])
def test_cve_2026_54338_a_name_of_any_length_fills_no_log(hub, provider, browser, where):
    before, name = hub.log_path.stat().st_size, "n" * 10_000
    if where == "login":
        provider.person("mallory").login = name
        provider.current_person = provider.person(name)
        browser.login("github")
    elif where == "form":
        browser.get("/hub/login")
        browser.post("/hub/login", {"username": name})
    else:
        browser.get("/hub/github/callback", params={"state": name})

    assert hub.log_path.stat().st_size - before < 10_000
    longest = max(map(len, (hub.home / "audit" / "events.jsonl").read_text().splitlines()))
    assert longest < 4000


def test_cve_2022_24757_and_2026_86049_no_secret_is_in_a_log_or_on_an_error_page(hub, provider, victim):
    """The last test here: whatever went through the hub above counts too."""
    token = victim.api(f"/users/{VICTIM}/tokens", "POST", json={"expires_in": 3600}).json()["token"]
    pages = []
    with hub.browser() as browser:
        callback = callback_of(browser, "github", "mallory")
        address = browser.begin("google")
        pages.append(browser.finish(callback))
        pages.append(browser.finish(callback))
        unheard = browser.consent(address, "grace")
        with provider.outage():
            pages.append(browser.finish(unheard))
        browser.login("google", person="grace")
        pages.append(browser.get("/hub/nowhere", params={"token": token}))
        pages.append(browser.get("/hub/api/users", params={"token": token}))
        referer = {"Referer": f"{hub.url}/user/x/?token={token}", "Authorization": f"token {token}x"}
        pages.append(browser.get("/hub/nowhere", headers=referer))
        # An error of the hub's own, with all cookies of somebody.
        pages.append(victim.get("/hub/login", params={"next": "/hub/\r\nx"}))

    told = [request.form for request in provider.requests]
    secrets = {
        "API token": [token],
        "client secret": [protocol.client.secret for protocol in provider.protocols.values()],
        "state secret": [hub.variables["OAUTH2_STATE_SECRET"]],
        "code": [form["code"] for form in told if len(form.get("code", "")) > 20],
        "code that was not redeemed": [httpx.URL(unheard).params["code"]],
        "state": [httpx.URL(callback).params["state"]],
        "verifier": [form["code_verifier"] for form in told if "code_verifier" in form],
        "access token": list(provider.grants.access),
        "refresh token": list(provider.grants.refresh),
        "session": [victim.cookies[SESSION].strip('"')],
        "session id": [victim.cookies["jupyterhub-session-id"]],
        "XSRF token": [victim.xsrf()],
    }
    audit = (hub.home / "audit" / "events.jsonl").read_text()
    shown = "\n".join(page.text.replace(victim.xsrf(), "") for page in pages)
    found = {
        f"{kind} in the {place}"
        for kind, values in secrets.items()
        for place, text in {"log": hub.log, "audit log": audit, "pages": shown}.items()
        if any(value in text for value in values)
    }
    assert all(secrets.values())
    assert found == set()
