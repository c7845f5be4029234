"""What attackers of a login do, and what has to be true after they have failed."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

from tests.services.browser import Browser
from tests.services.identity_provider import IdentityProvider, Person

SESSION = "jupyterhub-hub-login"


def add_person(provider: IdentityProvider, login: str, number: int, **values: Any) -> Person:
    """Somebody new at the provider."""
    person = Person(login, number, login.title(), **values)
    provider.people.append(person)
    return person


@contextmanager
def kept_people(provider: IdentityProvider) -> Iterator[None]:
    """What is done to people inside does not outlast it; what was granted to them stays."""
    before = [(person, copy.deepcopy(vars(person))) for person in provider.people]
    try:
        yield
    finally:
        provider.people[:] = [person for person, _ in before]
        for person, values in before:
            vars(person).update(values)
        provider.current_person = provider.people[0]
        provider.tampering = provider.denies = ""


def callback_of(browser: Browser, provider: str, person: str = "grace") -> str:
    """The address with code and state to which a flow of that browser would return."""
    return browser.consent(browser.begin(provider), person)


def parameter(address: str, name: str) -> str:
    """One parameter of an address."""
    return parse_qs(urlsplit(address).query)[name][0]


def set_cookie(browser: Browser, name: str, value: str, path: str = "/hub/") -> None:
    """Put a cookie into the browser, as a page of a sibling host or of a user's server can."""
    browser.cookies.set(name, value, domain=urlsplit(browser.url).hostname or "", path=path)


def flow_cookie(browser: Browser, provider: str, address: str) -> tuple[str, str]:
    """Name and value of the cookie of the flow that *address* begins."""
    name = f"login-{provider}-{parameter(address, 'state')}"
    return name, browser.cookies[name]


def assert_refused(browser: Browser, answer: httpx.Response, *statuses: int) -> None:
    """Nobody is logged in, and what is shown is a page of ours with advice."""
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:500]}"
    assert 'id="advice"' in answer.text
    assert "Traceback" not in answer.text
    assert SESSION not in browser.cookies
    assert not browser.is_logged_in()


def where_a_browser_goes(location: str, page: str) -> str:
    """What browsers make of a Location (url.spec.whatwg.org): tabs and line ends vanish, \\ is /, http:x has a host."""
    text = re.sub(r"[\t\r\n]", "", location).strip("".join(map(chr, range(33)))).replace("\\", "/")
    if absolute := re.match(r"(?i)(https?):/*(.*)", text):
        return f"{absolute[1].lower()}://{absolute[2]}"
    return urljoin(page, "//" + text.lstrip("/") if text.startswith("//") else text)
