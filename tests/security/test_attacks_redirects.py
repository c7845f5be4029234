"""Open redirects, paths that pass for hosts, and headers that claim another host: everything stays at the hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import quote, urlsplit

import httpx
import pytest

from hub.hop import HEADER
from tests.conftest import needs
from tests.services.attacker import callback_of, parameter, where_a_browser_goes
from tests.services.browser import Browser, changed, send
from tests.services.login_hub import LoginHub, api_token
from workbench.security.audit import Action, AuditLog, read_events

pytestmark = pytest.mark.usefixtures("people_as_before")
EVIL = "evil.example"


ADDRESSES = [
    "https://evil.example/",
    "//evil.example",
    "///evil.example",
    "////evil.example/%2e%2e",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    "/%09/evil.example",
    "%2f%2fevil.example",
    "/%2f/evil.example",
    "/%5cevil.example",
    "https:evil.example",
    "https:/evil.example",
    "http:\\\\evil.example",
    "//evil.example\\@{hub}",
    "//{hub}@evil.example",
    "http://{hub}@evil.example/",
    "http://{hub}.evil.example/",
    "http://{hub}\\.evil.example/",
    "http://{hub}//evil.example",
    "//{hub}//evil.example",
    "/hub/..//evil.example",
    "/hub/\r\nLocation: //evil.example",
    "/hub/%0d%0aLocation:%20//evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "\u2044\u2044evil.example",
    "\uff0f\uff0fevil.example",
    "//evil\u3002example",
    "/\u200b/evil.example",
    "//0x7f000001.evil.example",
    "//[::ffff:1.2.3.4]/",
    "@evil.example",
    ".evil.example",
    "?next=//evil.example",
]


@pytest.fixture(scope="module")
def member(hub) -> Iterator[Browser]:
    with hub.browser() as browser:
        assert browser.login("github", person="ada").status_code == 200
        yield browser


def assert_stays_here(hub: LoginHub, answer: httpx.Response) -> None:
    assert answer.headers.get_list("location") in ([], [answer.headers.get("location")])
    if answer.has_redirect_location:
        goal = urlsplit(where_a_browser_goes(answer.headers["location"], str(answer.request.url)))
        assert (goal.scheme, goal.netloc) == urlsplit(hub.url)[:2], answer.headers["location"]


class _Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in {"href", "action", "src"}]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_login_ends_at_the_hub(hub, browser, address):
    authorize = browser.begin("github", next=address.replace("{hub}", urlsplit(hub.url).netloc))

    answer = browser.finish(browser.consent(authorize, "grace"))

    assert answer.status_code == 302, answer.text[:300]
    assert_stays_here(hub, answer)
    assert browser.is_logged_in()


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_button_of_the_login_page_leads_elsewhere(hub, browser, address):
    page = browser.get("/hub/login", params={"next": address.replace("{hub}", urlsplit(hub.url).netloc)})

    assert page.status_code == 200
    for link in _Links(page.text).found:
        assert urlsplit(where_a_browser_goes(link, hub.url))[:2] == urlsplit(hub.url)[:2], link
    (button,) = [link for link in _Links(page.text).found if link.startswith("/hub/github/login")]
    assert urlsplit(browser.get(button).headers["location"])[:2] == urlsplit(hub.provider.url)[:2]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("path", ["/hub/login", "/hub/", "/hub/spawn/nobody", "/hub/accept-share"])
def test_no_page_sends_a_member_elsewhere(hub, member, path, address):
    answer = member.get(path, params={"next": address.replace("{hub}", urlsplit(hub.url).netloc), "code": "x"})

    assert_stays_here(hub, answer)


@pytest.mark.parametrize("address", ADDRESSES[:12])
def test_a_logout_ends_at_the_hub(hub, browser, address):
    browser.login("github", person="grace")

    assert_stays_here(hub, browser.get("/hub/logout", params={"next": address}))
    assert not browser.is_logged_in()


@pytest.mark.parametrize("address", ADDRESSES[:12])
def test_next_in_a_callback_is_not_obeyed(hub, browser, address):
    assert_stays_here(hub, browser.finish(changed(callback_of(browser, "github"), next=address)))


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "//evil.example/hub/..",
        "/hub//evil.example",
        "/hub//evil.example/..;/",
        "/hub/%2f%2fevil.example",
        "/hub/user-redirect//evil.example",
        "/hub/user-redirect/%2f%2fevil.example",
        "/hub/user-redirect/\\evil.example",
        "/hub/user/..//evil.example",
        "/user//evil.example",
        "/user/gh-ada//evil.example",
        "/hub/spawn/@evil.example",
        "/%5cevil.example",
        "/hub/%0d%0aLocation:%20https:%2f%2fevil.example",
        "/hub/static/..%2f..%2f..%2fetc/passwd",
        "/hub/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_no_path_is_taken_for_a_host_or_a_file(hub, member, path):
    answer = member.get(path if path.startswith("/hub") else f"{hub.url}{path}")

    assert_stays_here(hub, answer)
    assert "root:x:0" not in answer.text


HEADERS = {
    "X-Forwarded-Host": EVIL,
    "X-Forwarded-Proto": "javascript",
    "X-Forwarded-Scheme": "https",
    "X-Scheme": "https",
    "X-Forwarded-Port": "4443",
    "X-Forwarded-Prefix": f"//{EVIL}",
    "X-Forwarded-Server": EVIL,
    "X-Original-URL": f"//{EVIL}/",
    "X-Rewrite-URL": "/hub/admin",
    "X-HTTP-Method-Override": "DELETE",
    "Forwarded": f"host={EVIL};proto=https",
    "Host": EVIL,
    "Origin": f"https://{EVIL}",
    "Referer": f"https://{EVIL}/",
}


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_changes_where_the_provider_or_the_login_lead(hub, name):
    with hub.browser(headers={name: HEADERS[name]}) as browser:
        page = browser.get("/hub/login", params={"next": "/hub/home"})
        assert EVIL not in page.text
        redirect = browser.get("/hub/", params={"next": f"https://{EVIL}/"})
        assert urlsplit(redirect.headers["location"])[:2] == ("", "")
        address = browser.begin("github", next=f"https://{EVIL}/")
        assert parameter(address, "redirect_uri") == f"{hub.url}/hub/github/callback"

        answer = browser.finish(browser.consent(address, "grace"))

        assert EVIL not in answer.headers["location"]
        assert urlsplit(answer.headers["location"])[:2] == ("", "")


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-Ip", "X-Client-Ip", "Forwarded", "CF-Connecting-IP"])
def test_nobody_writes_another_address_into_the_audit_log(hub, name):
    with hub.browser(headers={name: "for=6.6.6.6" if name == "Forwarded" else "6.6.6.6"}) as browser:
        browser.login("github", person="grace")

    *_, last = read_events(AuditLog.of(hub.home).path, action=Action.LOGIN_SUCCEEDED)
    assert last.details["address"] == "127.0.0.1"


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-Ip"])
def test_nobody_beside_the_proxy_writes_another_address_into_the_audit_log(hub, name):
    """The hub's own port is on loopback, where every user of the machine is."""
    group = f"beside-{name.lower()}"
    headers = {name: "6.6.6.6", HEADER: "6.6.6.6"}

    send(
        "POST",
        f"http://127.0.0.1:{hub.ports.hub_api}/hub/api/groups/{group}",
        token=api_token(hub),
        headers=headers,
        json={},
    )

    assert addresses(hub, group) == {"127.0.0.1"}


def test_the_address_of_who_comes_through_the_proxy_is_in_the_audit_log(hub):
    needs(sys.platform == "linux", "a second address of loopback")
    headers = {"Authorization": f"token {api_token(hub)}", "X-Real-Ip": "6.6.6.6", HEADER: "6.6.6.6"}
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"), headers=headers) as client:
        client.post(f"{hub.url}/hub/api/groups/through", json={})

    assert addresses(hub, "through") == {"127.0.0.2"}


def addresses(hub: LoginHub, group: str) -> set[str]:
    """From where a group was made, as the audit log has it."""
    events = read_events(AuditLog.of(hub.home).path, action=Action.GROUP_CHANGED)
    return {each.details["address"] for each in events if each.resource.endswith(f"/{group}")}


def test_addresses_are_read_as_browsers_read_them():
    assert where_a_browser_goes("/\\evil.example", "http://a/") == "http://evil.example"
    assert where_a_browser_goes("/\t/evil.example", "http://a/") == "http://evil.example"
    assert where_a_browser_goes("https:evil.example", "http://a/") == "https://evil.example"
    assert where_a_browser_goes(quote("//evil.example"), "http://a/b/").startswith("http://")


def test_localhost_leads_to_the_address_of_the_cookies_before_one_is_set(hub: LoginHub):
    there = {"Host": f"localhost:{hub.ports.proxy}"}

    page = send("GET", f"{hub.url}/hub/login?next=%2Fhub%2Fhome", headers=there)
    api = send("GET", f"{hub.url}/hub/api/user", headers=there, token=api_token(hub))

    assert (page.status_code, page.headers["location"]) == (302, f"{hub.url}/hub/login?next=%2Fhub%2Fhome")
    assert "set-cookie" not in page.headers
    assert "location" not in api.headers
