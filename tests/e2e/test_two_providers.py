"""What people see of the hub, in a real Chromium: two providers, one account; on a phone; refused; as administrator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.test_browser import SECOND, keep, running_chromium, watched_page
from tests.services.proxied_hub import running_hub
from tests.services.workbench import wait_until
from workbench.security.secrets import ensure_code

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
TOUCHABLE = 44  # pixels, WCAG 2.5.5
READABLE = 14  # pixels
REFUSED = "status of 403"
START_SECONDS = 90
IS_NARROW = "() => document.documentElement.scrollWidth <= 390"
LOW_BUTTONS = """least => [...document.querySelectorAll('.wb-button, .wb-nav a, .wb-code, .wb-person')]
    .filter(each => each.getBoundingClientRect().height < least).map(each => each.textContent.trim())"""
SMALL_TEXT = """least => [...document.querySelectorAll('body *')]
    .filter(each => each.innerText && !['CODE', 'STYLE'].includes(each.tagName))
    .filter(each => parseFloat(getComputedStyle(each).fontSize) < least).map(each => each.innerText)"""
INLINE = "() => document.querySelectorAll('script, style, [style], [onclick], [onload]').length"


@dataclass(frozen=True)
class Hub:
    """Where it is and what lets people in."""

    url: str
    sign_in_code: str

    def sign_in(self, page: Any, provider: str, person: str, next_page: str = "/hub/home") -> None:
        page.goto(f"{self.url}/hub/login?next={next_page}")
        page.click(f"#login-{provider}")
        self.consent(page, person)
        page.wait_for_url(f"{self.url}{next_page}")

    def consent(self, page: Any, person: str) -> None:
        page.check(f"[value={person}]")
        page.fill("#sign_in_code", self.sign_in_code)
        page.click("#authorize")

    def log_out(self, page: Any) -> None:
        page.click("#logout")
        page.wait_for_url(f"{self.url}/hub/login")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with running_hub(tmp_path_factory.mktemp("people")) as running:
        yield Hub(running.url, ensure_code(running.home / "keys" / "sign-in-code"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    with watched_page(chromium) as page:
        yield page


@pytest.fixture
def phone(chromium: Any) -> Iterator[Any]:
    with watched_page(chromium, allowed="status of 404", **PHONE) as page:
        yield page


def name_of(page: Any) -> str:
    """The hub's name of who is logged in."""
    return str(page.locator(".wb-user").get_attribute("title"))


def providers_of(page: Any) -> list[str]:
    return [row.get_attribute("data-provider") for row in page.locator("#linked tbody tr").all()]


def test_who_links_both_providers_is_the_same_person_by_either(page, hub):
    page.goto(hub.url)
    keep(page, "login")
    assert page.title() == "Sign in · Analytics workbench"
    page.click("#login-github")
    keep(page, "consent")
    hub.consent(page, "ada")
    page.wait_for_url(f"{hub.url}/user/gh-ada/**", timeout=START_SECONDS * SECOND)
    page.goto(f"{hub.url}/hub/home")
    assert (name_of(page), page.locator("#user-name").inner_text()) == ("gh-ada", "Ada Lovelace")
    hub.log_out(page)

    hub.sign_in(page, "google", "grace", "/hub/accounts")
    grace = name_of(page)
    assert grace != "gh-ada"
    assert providers_of(page) == ["google"]
    page.click("#link-github")
    hub.consent(page, "grace")
    page.wait_for_url(f"{hub.url}/hub/accounts")
    assert providers_of(page) == ["google", "github"]
    assert page.locator("#link-github").count() == 0
    keep(page, "accounts")
    hub.log_out(page)

    hub.sign_in(page, "github", "grace")
    assert (name_of(page), page.locator("#user-name").inner_text()) == (grace, "Grace Hopper")


def test_an_account_of_somebody_else_is_not_linked(chromium, hub):
    with watched_page(chromium) as page:
        hub.sign_in(page, "google", "ada")
        other = name_of(page)
    with watched_page(chromium, allowed="status of 409") as page:
        hub.sign_in(page, "github", "ada", "/hub/accounts")
        page.click("#link-google")
        hub.consent(page, "ada")

        page.get_by_text(f"this google account belongs to {other} here, not to gh-ada").wait_for()
        keep(page, "taken")
        assert page.title() == "It is somebody else's · Analytics workbench"
        page.goto(f"{hub.url}/hub/accounts")
        assert providers_of(page) == ["github"]


def test_who_is_not_let_in_reads_what_to_do(chromium, hub):
    with watched_page(chromium, allowed=REFUSED) as page:
        page.goto(f"{hub.url}/hub/login")
        page.click("#login-google")
        hub.consent(page, "mallory")

        page.get_by_role("heading", name="You are not let in").wait_for()
        keep(page, "refused")
        assert "Ask its administrators to add your account" in page.locator(".wb-problem").inner_text()
        page.click("#login")
        page.locator("#login-google").wait_for()


def test_a_wrong_code_and_a_cancelled_login_say_so(chromium, hub):
    with watched_page(chromium, allowed="status of 40[03]") as page:
        page.goto(f"{hub.url}/hub/login")
        page.click("#login-google")
        page.fill("#sign_in_code", "AAAA-BBBB-CCCC")
        page.click("#authorize")
        assert "not the sign-in code" in page.get_by_role("alert").inner_text()

        page.click("[name=cancel]")
        page.get_by_text("Google ended the login: access_denied").wait_for()
        keep(page, "cancelled")


def test_the_pages_fit_a_phone(phone, hub):
    phone.goto(f"{hub.url}/hub/login?next=/hub/home")
    keep(phone, "login-phone")
    check_fits(phone)
    phone.click("#login-github")
    keep(phone, "consent-phone")
    check_fits(phone)
    hub.consent(phone, "ada")
    phone.wait_for_url(f"{hub.url}/hub/home")
    for name in ("home", "accounts", "status", "nowhere"):
        phone.goto(f"{hub.url}/hub/{name}")
        keep(phone, f"{name}-phone")
        check_fits(phone)


def check_fits(page: Any) -> None:
    assert page.evaluate(IS_NARROW), f"{page.url} scrolls sideways"
    assert page.evaluate(LOW_BUTTONS, TOUCHABLE) == []
    assert page.evaluate(SMALL_TEXT, READABLE) == []


def test_one_logs_in_by_keyboard_alone(page, hub):
    page.goto(f"{hub.url}/hub/login?next=/hub/home")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "login-google"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keep(page, "focus")
    page.keyboard.press("Enter")
    page.locator("#sign_in_code:focus").wait_for()
    page.keyboard.type(hub.sign_in_code)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{hub.url}/hub/home")


def test_our_pages_hold_neither_script_nor_style(chromium, hub):
    with watched_page(chromium, allowed="status of 404") as page:
        page.goto(f"{hub.url}/hub/login")
        assert page.evaluate(INLINE) == 0
        hub.sign_in(page, "github", "ada")
        for name in ("accounts", "status", "nowhere"):
            page.goto(f"{hub.url}/hub/{name}")
            assert page.title().endswith(" · Analytics workbench")
            assert page.evaluate(INLINE) == 0


@pytest.mark.timeout(300)
def test_an_administrator_starts_and_stops_a_server_and_sees_it_in_the_status(chromium, hub):
    with watched_page(chromium) as page:
        hub.sign_in(page, "google", "grace", "/hub/accounts")
        grace = name_of(page)
        keep(page, "member")
    with watched_page(chromium) as page:
        hub.sign_in(page, "github", "ada", "/hub/admin")
        assert page.title() == "Administration · Analytics workbench"
        row = page.get_by_role("row").filter(has_text=grace)
        press(page, row.get_by_role("button", name="Start Server"), row.get_by_role("button", name="Stop Server"))
        keep(page, "admin")

        page.get_by_role("link", name="Status").click()
        server = page.locator("#servers tbody tr").filter(has_text=grace)
        assert "ready" in server.inner_text()
        keep(page, "status")

        page.get_by_role("link", name="Admin", exact=True).click()
        press(page, row.get_by_role("button", name="Stop Server"), row.get_by_role("button", name="Start Server"))
        page.goto(f"{hub.url}/hub/status")
        assert server.count() == 0


def press(page: Any, button: Any, then: Any) -> None:
    """Press a button of JupyterHub's page and wait for what takes its place."""
    with page.expect_response(lambda answer: "/servers" in answer.url, timeout=START_SECONDS * SECOND):
        button.click()

    def has_come() -> bool:
        # The page does not ask again about what takes longer than ten seconds.
        page.reload(wait_until="networkidle")
        return bool(then.is_visible())

    wait_until(has_come, START_SECONDS, "the other button")


def test_the_status_is_for_administrators(chromium, hub):
    with watched_page(chromium, allowed=REFUSED) as page:
        hub.sign_in(page, "google", "grace")
        assert page.get_by_role("link", name="Status").count() == 0

        answer = page.goto(f"{hub.url}/hub/status")

        assert answer.status == 403
        assert "Ask an administrator" in page.locator("#advice").inner_text()
        keep(page, "status-refused")
