"""Attacks on the login itself: state, code, PKCE, mix-up. Each ends with nobody logged in, on a page with advice."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet

from hub.authentication.flows import Flow, _fernet, seal
from tests.services.attacker import (
    SESSION,
    assert_refused,
    callback_of,
    flow_cookie,
    parameter,
    set_cookie,
)
from tests.services.browser import changed
from tests.services.identity.grants import Grant

pytestmark = pytest.mark.usefixtures("people_as_before")
PROVIDERS = ("github", "google", "oidc")


STATES = {
    "missing": lambda state: None,
    "empty": lambda state: "",
    "a letter": lambda state: "x",
    "one letter less": lambda state: state[:-1],
    "one letter more": lambda state: state + "A",
    "first letter changed": lambda state: ("A" if state[0] != "A" else "B") + state[1:],
    "middle letter changed": lambda state: state[:20] + ("_" if state[20] != "_" else "-") + state[21:],
    "reversed": lambda state: state[::-1],
    "of a flow that never was": lambda state: secrets.token_urlsafe(32),
    "with a NUL": lambda state: state[:-1] + "\0",
    "with a line break inside": lambda state: state[:20] + "\r\n" + state[20:],
    "of another script": lambda state: "é" * 43,
    "of digits that only look like digits": lambda state: "٣" * 43,
    "a path": lambda state: "../" * 14 + "x",
    "a cookie header": lambda state: f"{state[:20]}; {SESSION}=x",
    "a template": lambda state: "{{7*7}}" * 6 + "x",
    "of OAuthenticator": lambda state: base64.urlsafe_b64encode(json.dumps({"state_id": state}).encode()).decode(),
    "of 16 kB": lambda state: "A" * 16_000,
}


@pytest.mark.parametrize("case", STATES)
def test_a_wrong_state_lets_nobody_in(browser, case):
    callback = callback_of(browser, "github")

    answer = browser.finish(changed(callback, state=STATES[case](parameter(callback, "state"))))

    assert_refused(browser, answer, 400)


def test_a_state_beyond_the_size_of_a_header_lets_nobody_in(browser):
    answer = browser.finish(changed(callback_of(browser, "github"), state="A" * 65_000))

    # The hub hangs up, which the proxy calls 502.
    assert answer.status_code in {400, 414, 431, 502}
    assert SESSION not in browser.cookies


@pytest.mark.parametrize("order", ["good first", "bad first"])
def test_a_state_given_twice_counts_once(browser, order):
    callback, bad = callback_of(browser, "github"), secrets.token_urlsafe(32)
    good = parameter(callback, "state")
    pair = [good, bad] if order == "good first" else [bad, good]

    answer = browser.finish(changed(callback, state=None) + "".join(f"&state={each}" for each in pair))

    # One of the two is read by all: the good one logs in, the bad one does not.
    assert (answer.status_code, SESSION in browser.cookies) in {(302, True), (400, False)}


@pytest.mark.parametrize("state", ["%ff%fe", "%c0%ae", "%ed%a0%80"])
def test_a_state_that_is_no_text_lets_nobody_in(browser, state):
    callback = changed(callback_of(browser, "github"), state=None)

    assert_refused(browser, browser.finish(f"{callback}&state={state}"), 400)


@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_a_callback_works_once(browser, provider_name):
    callback = callback_of(browser, provider_name)
    assert browser.finish(callback).status_code == 302
    browser.logout()

    assert_refused(browser, browser.finish(callback), 400)


def test_a_used_state_with_its_cookie_kept_and_a_new_code_lets_nobody_in(browser):
    address = browser.begin("github")
    cookie = flow_cookie(browser, "github", address)
    assert browser.finish(browser.consent(address, "grace")).status_code == 302
    browser.logout()
    set_cookie(browser, *cookie)

    assert_refused(browser, browser.finish(browser.consent(address, "grace")), 400)


def test_a_state_that_failed_is_not_tried_again(browser):
    address = browser.begin("github")
    cookie = flow_cookie(browser, "github", address)
    browser.finish(changed(browser.consent(address, "grace"), code="wrong"))
    set_cookie(browser, *cookie)

    assert_refused(browser, browser.finish(browser.consent(address, "grace")), 400)


def test_codes_swapped_between_two_tabs_let_nobody_in(browser):
    first, second = callback_of(browser, "github"), callback_of(browser, "github", "ada")

    for one, other in ((first, second), (second, first)):
        assert_refused(browser, browser.finish(changed(one, code=parameter(other, "code"))), 403)


@pytest.mark.parametrize("other", ["google", "oidc"])
def test_a_state_of_one_provider_is_none_of_another(browser, other):
    callback = callback_of(browser, "github")

    assert_refused(browser, browser.finish(callback.replace("/github/", f"/{other}/")), 400)


def test_a_flow_cookie_renamed_to_another_provider_is_none_of_it(browser):
    address = browser.begin("github")
    name, value = flow_cookie(browser, "github", address)
    set_cookie(browser, name.replace("github", "google"), value)

    callback = browser.consent(address, "grace").replace("/github/", "/google/")

    assert_refused(browser, browser.finish(callback), 400)


def test_a_flow_cookie_renamed_to_another_flow_is_none_of_it(browser):
    first, second = browser.begin("github"), browser.begin("github")
    _, value = flow_cookie(browser, "github", first)
    set_cookie(browser, flow_cookie(browser, "github", second)[0], value)

    assert_refused(browser, browser.finish(browser.consent(second, "grace")), 400)


@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_a_callback_in_another_browser_lets_nobody_in(hub, browser, provider_name):
    callback = callback_of(browser, provider_name, "ada")

    with hub.browser() as victim:
        victim.begin(provider_name)
        assert_refused(victim, victim.finish(callback), 400)


@pytest.mark.parametrize("byte", [0, 4, 12, 30, 60, -40, -10, -1], ids=lambda byte: f"byte {byte}")
def test_a_flow_cookie_with_a_changed_byte_is_worth_nothing(browser, byte):
    address = browser.begin("github")
    name, value = flow_cookie(browser, "github", address)
    sealed = bytearray(base64.urlsafe_b64decode(value))
    sealed[byte] ^= 1
    set_cookie(browser, name, base64.urlsafe_b64encode(bytes(sealed)).decode())

    assert_refused(browser, browser.finish(browser.consent(address, "grace")), 400)


@pytest.mark.parametrize(
    "make",
    [
        lambda value: "",
        lambda value: value[: len(value) // 2],
        lambda value: value.swapcase(),
        lambda value: "gAAAA" + "A" * 4000,
        lambda value: base64.urlsafe_b64encode(json.dumps({"provider": "github"}).encode()).decode(),
        lambda value: Fernet(Fernet.generate_key()).encrypt(b"{}").decode(),
    ],
    ids=["empty", "half", "other case", "4 kB", "unsealed", "of another key"],
)
def test_a_flow_cookie_that_is_not_the_hubs_is_worth_nothing(browser, make):
    address = browser.begin("github")
    name, value = flow_cookie(browser, "github", address)
    set_cookie(browser, name, make(value))

    assert_refused(browser, browser.finish(browser.consent(address, "grace")), 400)


@pytest.mark.parametrize("age", ["its own time", "the time of the seal"])
def test_a_flow_older_than_ten_minutes_lets_nobody_in(hub, browser, age):
    secret, past = hub.variables["OAUTH2_STATE_SECRET"].encode(), time.time() - 601
    expires = past if age == "its own time" else time.time() + 600
    flow = Flow(provider="github", next_url="/hub/home", expires_at=expires)
    sealed = seal(flow, secret)
    if age != "its own time":
        plain = _fernet(secret).decrypt(sealed.encode())
        sealed = _fernet(secret).encrypt_at_time(plain, int(past)).decode()
    set_cookie(browser, flow.cookie, sealed)
    address = changed(browser.begin("github"), state=flow.state, code_challenge=flow.challenge)

    assert_refused(browser, browser.finish(browser.consent(address, "grace")), 400)


def test_a_flow_that_is_ten_minutes_young_lets_its_person_in(hub, browser):
    """The attack above fails for its age, and for nothing else."""
    flow = Flow(provider="github", next_url="/hub/home", expires_at=time.time() + 60)
    set_cookie(browser, flow.cookie, seal(flow, hub.variables["OAUTH2_STATE_SECRET"].encode()))
    address = changed(browser.begin("github"), state=flow.state, code_challenge=flow.challenge)

    assert browser.finish(browser.consent(address, "grace")).status_code == 302
    assert browser.is_logged_in()


@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_an_attackers_code_does_not_fit_the_victims_flow(hub, browser, provider_name):
    with hub.browser() as attacker:
        code = parameter(callback_of(attacker, provider_name, "ada"), "code")

    answer = browser.finish(changed(callback_of(browser, provider_name), code=code))

    assert_refused(browser, answer, 403)


@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_a_code_that_was_redeemed_does_not_open_another_flow(hub, browser, provider_name):
    with hub.browser() as first:
        callback = callback_of(first, provider_name)
        assert first.finish(callback).status_code == 302

    answer = browser.finish(changed(callback_of(browser, provider_name), code=parameter(callback, "code")))

    assert_refused(browser, answer, 403)


@pytest.mark.parametrize(
    "code",
    [None, "", "guessed", "x" * 2049, "a&client_secret=b", "a\r\nX-Evil: 1", "' OR 1=1--", "é", "%ff"],
    ids=["missing", "empty", "guessed", "2 kB", "form field", "header", "SQL", "accent", "percent"],
)
def test_a_made_up_code_lets_nobody_in(browser, code):
    assert_refused(browser, browser.finish(changed(callback_of(browser, "github"), code=code)), 400, 403)


@pytest.mark.parametrize("other", ["google", "oidc", "nobody"])
def test_a_code_of_another_client_lets_nobody_in(hub, provider, browser, other):
    address = browser.begin("github")
    grant = Grant(
        person=provider.person("grace"),
        protocol=other if other in PROVIDERS else "github",
        client_id=f"{other}-client",
        scopes=("read:user", "user:email", "read:org"),
        challenge=parameter(address, "code_challenge"),
        redirect_uri=f"{hub.url}/hub/github/callback",
    )

    callback = changed(browser.consent(address, "grace"), code=provider.grants.give_code(grant))

    assert_refused(browser, browser.finish(callback), 403)


@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_a_code_for_another_challenge_lets_nobody_in(browser, provider_name):
    address = changed(browser.begin(provider_name), code_challenge="A" * 43)

    assert_refused(browser, browser.finish(browser.consent(address, "grace")), 403)


@pytest.mark.parametrize(
    "change", [{"code_challenge": None}, {"code_challenge_method": "plain"}], ids=["none", "plain"]
)
@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_a_login_without_pkce_lets_nobody_in(browser, provider_name, change):
    address = changed(browser.begin(provider_name), **change)

    assert_refused(browser, browser.finish(browser.consent(address, "grace")), 400)


@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_every_flow_has_a_state_a_challenge_and_a_nonce_of_its_own(browser, provider_name):
    addresses = [browser.begin(provider_name) for _ in range(3)]

    for name in ("state", "code_challenge", *(["nonce"] if provider_name != "github" else [])):
        values = {parameter(address, name) for address in addresses}
        assert len(values) == 3
        assert min(map(len, values)) >= 43
    assert {parameter(address, "code_challenge_method") for address in addresses} == {"S256"}


@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_the_verifier_and_the_secret_travel_in_the_body_of_one_request_alone(provider, browser, provider_name):
    before = len(provider.requests)
    browser.login(provider_name, person="grace")

    requests = provider.requests[before:]
    (exchange,) = [request for request in requests if "code_verifier" in request.form]
    secret = provider.protocols[provider_name].client.secret
    for each in requests:
        assert secret not in str(each.query)
        assert exchange.form["code_verifier"] not in str(each.query)


ISSUERS = {
    "of another provider": "{other}",
    "of an attacker": "https://evil.example",
    "with a slash more": "{own}/",
    "in capitals": "{OWN}",
    "with the own as prefix": "{own}.evil.example",
    "with the own behind an @": "https://evil.example@{own}",
    "of 3 kB": "https://evil.example/" + "x" * 3000,
}


@pytest.mark.parametrize("case", ISSUERS)
@pytest.mark.parametrize("provider_name", ["google", "oidc"])
def test_an_answer_of_another_issuer_lets_nobody_in(provider, browser, provider_name, case):
    own, other = provider.url, provider.issuer
    if provider_name == "oidc":
        own, other = other, own
    issuer = ISSUERS[case].format(own=own, other=other, OWN=own.upper())

    assert_refused(browser, browser.finish(changed(callback_of(browser, provider_name), iss=issuer)), 400, 403)


def test_a_foreign_issuer_at_a_provider_that_names_none_lets_nobody_in(browser):
    """RFC 9207 §2.4: a client discards `iss` from a server that does not announce it."""
    callback = changed(callback_of(browser, "github"), iss="https://evil.example")

    assert_refused(browser, browser.finish(callback), 403)


def test_an_issuer_that_announces_its_name_has_to_give_it(browser):
    """RFC 9207 §2.4: without `iss`, an answer is not that of a server which says that it sends it."""
    callback = changed(callback_of(browser, "oidc"), iss=None)

    assert_refused(browser, browser.finish(callback), 403)


def test_an_attackers_provider_cannot_have_the_flow_finished_at_another(hub, provider, browser):
    """Mix-up: the button of the attacker's issuer leads to the honest one, for its client and callback."""
    mine = browser.begin("oidc")
    client = provider.protocols["github"].client.id
    redirect = f"{hub.url}/hub/github/callback"
    honest = changed(
        f"{provider.url}/login/oauth/authorize?{urlsplit(mine).query}", client_id=client, redirect_uri=redirect
    )

    before = len(provider.requests_to("/realm/token"))
    answer = browser.finish(browser.consent(honest, "grace"))

    assert_refused(browser, answer, 400)
    assert len(provider.requests_to("/realm/token")) == before


@pytest.mark.parametrize(
    "error", ["access_denied", "<script>alert(1)</script>", "x\r\nSet-Cookie: a=b", "{{7*7}}", "%"]
)
def test_an_error_of_the_provider_is_shown_as_text_and_lets_nobody_in(browser, error):
    answer = browser.finish(changed(callback_of(browser, "github"), code=None, error=error))

    assert_refused(browser, answer, 400)
    assert "<script>alert" not in answer.text
    assert "49" not in re.findall(r"ended the login: (.*?)\.", answer.text)[0]
    assert "a" not in browser.cookies


def test_an_older_secret_of_the_hub_opens_nothing(hub, browser):
    """The last test here: it restarts the hub."""
    with hub.browser() as member:
        member.login("github", person="ada")
        callback = callback_of(browser, "github")
        hub.restart(OAUTH2_STATE_SECRET=secrets.token_hex(32))

        assert not member.is_logged_in()
        assert_refused(browser, browser.finish(callback), 400)
