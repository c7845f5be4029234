"""One person, two providers: linked when both were proven, and never to anybody else."""

from __future__ import annotations

import subprocess

import pytest

from tests.services.browser import Browser, changed, send
from tests.services.identity_provider import IdentityProvider, Person
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.workbench import run
from workbench.security.audit import Action, AuditLog, read_events


@pytest.fixture(scope="module")
def provider():
    with IdentityProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def hub(provider, tmp_path_factory):
    with running_login_hub(tmp_path_factory.mktemp("hub"), provider) as hub:
        yield hub


@pytest.fixture
def ada(provider):
    """Somebody new, whose accounts are linked to nothing."""
    return add_member(provider).login


def add_member(provider: IdentityProvider) -> Person:
    number = 10_000 + len(provider.requests)
    made = Person(
        f"ada{number}", number, "Ada", f"ada{number}@example.com", hd="example.com", organizations={"example"}
    )
    provider.people.append(made)
    return made


def refusals(hub: LoginHub, login: str) -> list[str]:
    """Why the audit log says that nothing was linked to somebody."""
    events = read_events(AuditLog.of(hub.home).path, action=Action.ACCOUNT_LINKED)
    return [each.details["reason"] for each in events if (each.actor, each.outcome) == (f"gh-{login}", "refused")]


def test_a_linked_account_leads_to_the_same_person(hub, ada):
    with hub.browser() as browser:
        browser.login("github", person=ada)
        assert "Google" in browser.get("/hub/accounts").text

        page = browser.follow(browser.post("/hub/accounts/link/google"), person=ada)

        assert str(page.request.url).endswith("/hub/accounts")
    with hub.browser() as other:
        assert f"gh-{ada}" in other.login("google", person=ada).text
    linked = read_events(AuditLog.of(hub.home).path, action=Action.ACCOUNT_LINKED)
    assert [(each.actor, each.outcome) for each in linked] == [(f"gh-{ada}", "begun"), (f"gh-{ada}", "success")]


def test_an_account_of_somebody_else_cannot_be_linked(hub, ada):
    with hub.browser() as grace:
        grace.login("google", person="grace")
    with hub.browser() as browser:
        browser.login("github", person=ada)

        page = browser.follow(browser.post("/hub/accounts/link/google"), person="grace")

        assert page.status_code == 409
        assert "this Google account belongs to" in page.text
        assert refusals(hub, ada) == ["it is somebody else's"]
    with hub.browser() as grace:
        assert f"gh-{ada}" not in grace.login("google", person="grace").text


def test_an_account_that_may_not_enter_cannot_be_linked(hub, ada):
    with hub.browser() as browser:
        browser.login("github", person=ada)

        assert browser.follow(browser.post("/hub/accounts/link/google"), person="mallory").status_code == 403
    assert refusals(hub, ada) == ["no rule lets the account in"]


def test_linking_needs_the_token_of_the_page_and_a_login(hub, ada):
    with hub.browser() as browser:
        assert browser.client.post("/hub/accounts/link/google").status_code in {302, 403}
        browser.login("github", person=ada)
        assert browser.client.post("/hub/accounts/link/google").status_code == 403
        assert browser.get("/hub/accounts/link/google").status_code == 405


def test_a_link_that_somebody_else_began_does_nothing(hub, ada):
    """The attacker begins to link, and has the victim's browser bring the answer back."""
    with hub.browser() as attacker, hub.browser() as victim:
        attacker.login("github", person="grace")
        victim.login("github", person=ada)
        begun = attacker.post("/hub/accounts/link/google").headers["location"]

        assert victim.finish(attacker.consent(begun, person=ada)).status_code == 400
        assert "Google" in victim.get("/hub/accounts").text


def test_who_logs_in_as_another_person_meanwhile_links_nothing(hub, ada):
    with hub.browser() as browser:
        browser.login("github", person=ada)
        begun = browser.post("/hub/accounts/link/google").headers["location"]
        browser.login("github", person="grace")

        assert browser.finish(browser.consent(begun, person=ada)).status_code == 403
    assert refusals(hub, ada) == ["gh-grace is logged in"]


def test_the_state_of_a_link_is_no_login(hub, ada):
    with hub.browser() as browser:
        browser.login("github", person=ada)
        callback = browser.consent(browser.post("/hub/accounts/link/google").headers["location"], person=ada)
        browser.logout()

        assert browser.finish(callback).status_code == 403
        assert refusals(hub, ada) == ["nobody is logged in"]
        assert browser.finish(changed(callback, state=None)).status_code == 400
        assert not browser.is_logged_in()


def link_google(hub: LoginHub, browser: Browser, login: str) -> None:
    browser.login("github", person=login)
    assert browser.follow(browser.post("/hub/accounts/link/google"), person=login).status_code == 200


def unlink(hub: LoginHub, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`workbench hub unlink`, as the operator types it."""
    return run("hub", "unlink", *arguments, home=hub.home, **hub.variables)


def test_an_account_that_was_unlinked_opens_another_door(hub, ada):
    with hub.browser() as browser, hub.browser() as by_google:
        link_google(hub, browser, ada)
        by_google.login("google", person=ada)

        done = unlink(hub, f"gh-{ada}", "google")

        assert done.returncode == 0, done.stderr
        # The session that the account has opened is gone; a session is the person's, so the other one, too.
        assert not by_google.is_logged_in()
        page = by_google.login("google", person=ada)
        assert page.status_code == 200
        assert f"gh-{ada}" not in page.text
        assert f"gh-{ada}" in browser.login("github", person=ada).text
    events = read_events(AuditLog.of(hub.home).path, action=Action.ACCOUNT_UNLINKED)
    found = [each for each in events if each.resource == f"gh-{ada}"]
    assert [each.details for each in found] == [{"provider": "google", "login": f"{ada}@example.com"}]
    assert found[0].actor.startswith("operator:")


def test_a_session_ends_though_the_other_account_has_logged_in_since(hub, ada):
    """Google is taken over; its owner, who knows nothing of it, logs in with GitHub before somebody takes it away."""
    with hub.browser() as browser, hub.browser() as attacker:
        link_google(hub, browser, ada)
        attacker.login("google", person=ada)
        browser.login("github", person=ada)
        token = attacker.api(f"/users/gh-{ada}/tokens", "POST", json={"expires_in": 3600}).json()["token"]
        assert attacker.is_logged_in()

        done = unlink(hub, f"gh-{ada}", "google")

        assert done.returncode == 0, done.stderr
        assert not attacker.is_logged_in()
        assert send("GET", f"{hub.url}/hub/api/user", token=token).status_code == 403
        assert not browser.is_logged_in()
        assert f"gh-{ada}" in browser.login("github", person=ada).text


def test_a_session_ends_though_the_audit_log_cannot_be_written(hub, ada):
    with hub.browser() as browser:
        link_google(hub, browser, ada)
        folder, aside = hub.home / "audit", hub.home / "audit-aside"
        folder.rename(aside)
        folder.write_text("in the way")
        try:
            done = unlink(hub, f"gh-{ada}", "google")
            is_logged_in = browser.is_logged_in()
        finally:
            folder.unlink()
            aside.rename(folder)

        assert not is_logged_in
        assert done.returncode == 1
        assert "audit log" in done.stderr
        assert "Linked: github" in unlink(hub, f"gh-{ada}", "google").stderr


def test_the_last_account_and_one_that_is_not_there_cannot_be_unlinked(hub, ada):
    with hub.browser() as browser:
        browser.login("github", person=ada)

        last, other = unlink(hub, f"gh-{ada}", "github"), unlink(hub, f"gh-{ada}", "google")

        assert (last.returncode, other.returncode) == (2, 2)
        assert "no other account" in last.stderr
        assert f"Linked: github {ada}" in other.stderr
        assert browser.is_logged_in()
