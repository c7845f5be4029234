"""The login over real HTTP: what lets people in, and what does not."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from tests.services.browser import send, trust

CONSENT = {"login": "ada"}


@pytest.fixture
def browser(shared_workbench):
    with httpx.Client(base_url=shared_workbench.url, timeout=30, trust_env=False, verify=trust()) as client:
        yield client


def begin(browser: httpx.Client, provider: str, **parameters: str) -> str:
    """Press the button; returns the provider's address with the state and the PKCE challenge."""
    answer = browser.get(f"/hub/{provider}/login", params=parameters)
    assert answer.status_code == 302
    return answer.headers["location"]


def consent(address: str, code: str, **fields: str) -> httpx.Response:
    return send("POST", address, data={**CONSENT, "sign_in_code": code, **fields})


def finish(browser: httpx.Client, callback: str) -> httpx.Response:
    return browser.get(callback)


@pytest.mark.parametrize(("provider", "name"), [("github", "gh-ada"), ("google", "g-ada-fe675f")])
def test_both_providers_let_their_people_in(browser, shared_workbench, provider, name):
    address = begin(browser, provider)

    landed = finish(browser, consent(address, shared_workbench.sign_in_code).headers["location"])

    assert landed.status_code == 302
    assert "jupyterhub-hub-login" in browser.cookies
    home = browser.get("/hub/home")
    assert home.status_code == 200
    assert name in home.text


def test_who_is_not_listed_is_refused(browser, shared_workbench):
    for provider in ("github", "google"):
        address = begin(browser, provider)

        answer = finish(browser, consent(address, shared_workbench.sign_in_code, login="mallory").headers["location"])

        assert answer.status_code == 403
        assert "jupyterhub-hub-login" not in browser.cookies


def test_a_wrong_sign_in_code_gives_no_authorization_code(browser):
    answer = consent(begin(browser, "github"), "AAAA-BBBB-CCCC")

    assert answer.status_code == 403
    assert "location" not in answer.headers
    assert "This is not the sign-in code" in answer.text


def test_a_code_for_another_persons_browser_is_refused(browser, shared_workbench):
    """Login CSRF (RFC 6749 §10.12): the victim's browser has no state cookie of the attacker's flow."""
    callback = consent(begin(browser, "github"), shared_workbench.sign_in_code).headers["location"]

    with httpx.Client(base_url=shared_workbench.url, trust_env=False, verify=trust()) as victim:
        assert victim.get(callback).status_code == 400


def test_a_state_of_one_provider_is_no_state_of_the_other(browser, shared_workbench):
    callback = consent(begin(browser, "github"), shared_workbench.sign_in_code).headers["location"]

    assert finish(browser, callback.replace("/hub/github/", "/hub/google/")).status_code == 400


def test_an_authorization_code_works_once(browser, shared_workbench):
    callback = consent(begin(browser, "github"), shared_workbench.sign_in_code).headers["location"]

    assert finish(browser, callback).status_code == 302
    assert finish(browser, callback).status_code == 400


def test_two_tabs_with_two_providers_both_come_in(browser, shared_workbench):
    first, second = begin(browser, "github"), begin(browser, "google")

    for address in (second, first):
        assert finish(browser, consent(address, shared_workbench.sign_in_code).headers["location"]).status_code == 302


@pytest.mark.parametrize(
    "state", ["", "x", base64.urlsafe_b64encode(json.dumps({"state_id": "../../x"}).encode()).decode()]
)
def test_a_made_up_state_is_refused(browser, state):
    assert browser.get("/hub/github/callback", params={"code": "x", "state": state}).status_code == 400


def test_after_the_login_nobody_is_sent_to_another_site(browser, shared_workbench):
    address = begin(browser, "github", next="https://evil.example/")

    landed = finish(browser, consent(address, shared_workbench.sign_in_code).headers["location"])

    assert urlsplit(landed.headers["location"]).netloc in ("", urlsplit(shared_workbench.url).netloc)


def test_cancelling_says_so(browser, shared_workbench):
    answer = consent(begin(browser, "github"), shared_workbench.sign_in_code, cancel="1")

    assert parse_qs(urlsplit(answer.headers["location"]).query)["error"] == ["access_denied"]
    assert finish(browser, answer.headers["location"]).status_code == 400


@pytest.mark.parametrize(
    "change",
    [{"redirect_uri": "https://evil.example/"}, {"client_id": "other"}, {"code_challenge_method": "plain"}],
    ids=lambda change: next(iter(change)),
)
def test_the_demo_provider_serves_only_the_hub_and_only_with_pkce(browser, change):
    address = urlsplit(begin(browser, "github"))
    query = {name: values[0] for name, values in parse_qs(address.query).items()}

    answer = send("GET", address._replace(query=urlencode({**query, **change})).geturl())

    assert answer.status_code == 400


def test_a_code_without_its_verifier_is_worth_nothing(browser, shared_workbench):
    address = urlsplit(begin(browser, "github"))
    callback = consent(address.geturl(), shared_workbench.sign_in_code).headers["location"]
    secret = (shared_workbench.home / "keys" / "demo-identity-client").read_text().strip()
    code = parse_qs(urlsplit(callback).query)["code"][0]
    token_url = f"{address.scheme}://{address.netloc}/login/oauth/access_token"
    redirect_uri = callback.partition("?")[0]
    fields = {
        "client_id": "workbench-demo",
        "client_secret": secret,
        "code": code,
        "code_verifier": "guessed",
        "redirect_uri": redirect_uri,
    }

    assert send("POST", token_url, data={**fields, "client_secret": "wrong"}).status_code == 401
    assert send("POST", token_url, data=fields).status_code == 400


@pytest.mark.parametrize(
    "path", ["/hub/login", "/hub/static/css/style.min.css", "/hub/nowhere", "/user/nobody/lab", "/hub/api"]
)
def test_every_response_carries_the_security_headers(browser, path):
    headers = browser.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "server" not in headers
    assert "x-jupyterhub-version" not in headers


def test_the_pages_of_the_hub_run_under_the_plans_policy(browser):
    policy = browser.get("/hub/login").headers["content-security-policy"]

    for directive in (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: https:",
    ):
        assert directive in policy


def test_only_listed_origins_may_call_with_credentials(browser, shared_workbench):
    for origin, allowed in ((shared_workbench.url, True), ("https://evil.example", False)):
        headers = browser.get("/hub/api", headers={"Origin": origin}).headers
        assert (headers.get("access-control-allow-origin") == origin) is allowed


def test_nobody_without_a_login_sees_a_users_server(browser):
    assert browser.get("/user/gh-ada/api/contents").status_code in (302, 403, 404, 424)
    assert browser.get("/hub/api/users").status_code == 403
