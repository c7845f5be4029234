"""Attacks by accounts that are not who they seem: unverified mail, lookalikes, reused logins and addresses."""

from __future__ import annotations

import re

import pytest

from tests.services.attacker import SESSION, add_person, assert_refused
from tests.services.browser import send

pytestmark = pytest.mark.usefixtures("people_as_before")


@pytest.mark.parametrize("verified", [False, None, "true", "True", 1])
@pytest.mark.parametrize("rule", ["domain", "address"])
def test_an_unverified_google_address_lets_nobody_in(provider, browser, rule, verified):
    mail, hd = ("guest@elsewhere.example", "") if rule == "address" else ("eve@example.com", "example.com")
    add_person(provider, "eve", 3001, mail=mail, hd=hd, mail_verified=verified)

    assert_refused(browser, browser.login("google", person="eve"), 403)


@pytest.mark.parametrize("verified", [False, None, "true", "True", 1])
def test_an_unverified_address_of_the_issuer_lets_nobody_in(provider, browser, verified):
    add_person(provider, "eve", 3002, mail="boss@corp.example", mail_verified=verified)

    assert_refused(browser, browser.login("oidc", person="eve"), 403)


@pytest.mark.parametrize(
    "hd",
    [
        "",
        "example.com.evil.example",
        "evil-example.com",
        "xexample.com",
        "sub.example.com",
        "com",
        "example.com.",
        "example.com\n",
        " example.com",
        "\u0435xample.com",
        "example.com,evil.example",
        ["example.com"],
        {"example.com": 1},
        True,
    ],
    ids=repr,
)
def test_an_address_of_a_workspace_that_is_not_listed_lets_nobody_in(provider, browser, hd):
    add_person(provider, "eve", 3003, mail="eve@example.com", hd=hd)

    assert_refused(browser, browser.login("google", person="eve"), 403, 503)


@pytest.mark.parametrize(
    "mail",
    [
        "guest@elsewhere.example.evil.example",
        "guest@elsewhere.example\n",
        "guest@elsewhere.example,eve@evil.example",
        "guest+eve@elsewhere.example",
        "g.uest@elsewhere.example",
        "gue\u017ft@elsewhere.example",
        '"guest@elsewhere.example"@evil.example',
        ["guest@elsewhere.example"],
    ],
    ids=repr,
)
def test_an_address_that_only_resembles_a_listed_one_lets_nobody_in(provider, browser, mail):
    add_person(provider, "eve", 3004, mail=mail)

    assert_refused(browser, browser.login("google", person="eve"), 403, 503)


@pytest.mark.parametrize(
    "groups",
    [{"staff@example.com.evil"}, {"/staff"}, {"xstaff@example.com"}, {"STAFF@example.com"}, {"oidc:staff@example.com"}],
    ids=repr,
)
def test_a_group_that_only_resembles_a_listed_one_lets_nobody_in(provider, browser, groups):
    add_person(provider, "eve", 3005, mail="eve@evil.example", groups=groups)

    assert_refused(browser, browser.login("oidc", person="eve"), 403)


@pytest.mark.parametrize("organization", ["Example-evil", "examples", "evil", "example:owners", "../orgs/example"])
def test_an_organization_that_only_resembles_a_listed_one_lets_nobody_in(provider, browser, organization):
    add_person(
        provider, "eve", 3006, mail="e@evil.example", organizations={organization}, teams={f"{organization}:owners"}
    )

    assert_refused(browser, browser.login("github", person="eve"), 403)


def test_a_listed_login_that_somebody_else_registered_lets_nobody_in(hub, provider, browser):
    add_person(provider, "octo", 3010, mail="octo@octo.example")
    with hub.browser() as first:
        assert first.login("github", person="octo").status_code == 200
    provider.reregister("octo")

    assert_refused(browser, browser.login("github", person="octo"), 403)


def test_a_listed_login_that_was_renamed_away_lets_the_newcomer_not_in(hub, provider, browser):
    wanderer = add_person(provider, "wanderer", 3011, mail="w@w.example")
    with hub.browser() as first:
        assert first.login("github", person="wanderer").status_code == 200
    wanderer.login = "settler"
    add_person(provider, "Wanderer", 3012, mail="n@n.example")

    assert_refused(browser, browser.login("github", person="Wanderer"), 403)


def test_a_reassigned_mail_address_of_the_issuer_lets_the_newcomer_not_in(hub, provider, browser):
    clerk = add_person(provider, "clerk", 3013, mail="clerk@corp.example")
    with hub.browser() as first:
        assert first.login("oidc", person="clerk").status_code == 200
    clerk.mail = "former-clerk@corp.example"
    add_person(provider, "clerk2", 3014, mail="clerk@corp.example")

    assert_refused(browser, browser.login("oidc", person="clerk2"), 403)


def test_nobody_locks_a_listed_address_out_by_taking_its_user_name(hub, provider, browser):
    """`preferred_username` is chosen by people (OpenID Connect Core 1.0 §5.7)."""
    add_person(provider, "clerk", 3015, mail="clerk@corp.example").login = "the-boss"
    add_person(provider, "boss", 3016, mail="boss@corp.example")
    with hub.browser() as attacker:
        attacker.login("oidc", person="the-boss")
    provider.person("the-boss").login = "somebody"
    provider.person("boss").login = "the-boss"

    assert browser.login("oidc", person="the-boss").status_code == 200


def test_a_newcomer_with_an_old_login_inherits_neither_name_nor_home(hub, provider, browser):
    add_person(provider, "twin", 3020, mail="t@t.example", organizations={"example"})
    with hub.browser() as first:
        assert "gh-twin" in first.login("github", person="twin").text
        token = first.api("/users/gh-twin/tokens", "POST", json={}).json()["token"]
    provider.reregister("twin").organizations = {"example"}

    browser.login("github", person="twin")

    name = browser.api("/user").json()["name"]
    assert name.startswith("gh-twin-")
    assert browser.api("/users/gh-twin").status_code == 404
    old = send("GET", f"{hub.url}/hub/api/user", token=token)
    assert old.json().get("name") != name


@pytest.mark.parametrize("login", ["chief", "CHIEF", "Chief"])
def test_a_newcomer_with_an_administrators_login_is_none(hub, provider, browser, login):
    add_person(provider, "chief", 3030, mail="c@c.example", organizations={"example"})
    with hub.browser() as first:
        first.login("github", person="chief")
        assert first.api("/user").json()["admin"] is True
    newcomer = provider.reregister("chief")
    newcomer.login, newcomer.organizations = login, {"example"}

    browser.login("github", person=login)

    model = browser.api("/user").json()
    assert model["name"] != "gh-chief"
    assert not model["admin"]
    assert browser.get("/hub/admin").status_code == 403


@pytest.mark.parametrize(
    ("provider_name", "login", "mail"),
    [
        ("oidc", "gh-chief", "x@x.example"),
        ("oidc", "chief", "chief@x.example"),
        ("google", "e", "gh-chief@example.com"),
        ("google", "e", "gh-chief"),
        ("github", "gh-chief", ""),
        ("github", "chief_", ""),
        ("github", "-chief", ""),
        ("github", "chief\n", ""),
        ("github", "../gh-chief", ""),
    ],
)
def test_no_other_account_gets_an_administrators_name(provider, browser, provider_name, login, mail):
    add_person(
        provider, login, 3040, mail=mail, hd="example.com", organizations={"example"}, groups={"staff@example.com"}
    )
    provider.current_person = provider.person(login)

    browser.login(provider_name)

    if SESSION in browser.cookies:
        model = browser.api("/user").json()
        assert model["name"] != "gh-chief"
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", model["name"])
        assert not model["admin"]
