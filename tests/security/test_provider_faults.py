"""A provider that fails during a login: a page says what to do, nobody is let in, and afterwards all is well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest

from tests.services.attacker import assert_refused
from tests.services.browser import Browser
from tests.services.identity.wire import Answer
from tests.services.identity_provider import Fault, IdentityProvider
from tests.services.workbench import wait_until

pytestmark = pytest.mark.usefixtures("people_as_before")
PROVIDERS = ("github", "google", "oidc")
ENDPOINTS = (
    "github:token",
    "github:userinfo",
    "github:membership",
    "google:token",
    "google:userinfo",
    "oidc:token",
    "oidc:userinfo",
)
LONGEST_SECONDS = 20.0
OUTAGES = {429, 408, 500, 502, 503}
# They say nothing about the person; the page must not say that they were refused.
UNHEARD = {"500", "502 with a page", "503 and when", "429", "GitHub's limit", "408", "reset", "garbage"}


def page(body: object) -> Fault:
    return Fault(answer=Answer(body=body))


FAULTS = {
    "500": Fault.status(500),
    "502 with a page": Fault(answer=Answer(status=502, body=b"<html>Bad Gateway</html>")),
    "503 and when": Fault.status(503, **{"Retry-After": "120"}),
    "429": Fault.too_many_requests(60),
    "GitHub's limit": Fault.rate_limited(),
    "408": Fault.status(408),
    "401": Fault.status(401),
    "reset": Fault.reset(),
    "done but unheard": Fault.lost_answer(),
    "garbage": Fault.garbage(),
    "a portal's page": Fault.html(),
    "nothing": page(b""),
    "null": page(None),
    "a list": page([]),
    "text": page("ok"),
    "an empty object": page({}),
    "numbers for all": page({"access_token": 1, "id_token": 2, "id": {}, "sub": 3, "login": 4, "email": 5, "error": 0}),
    "objects for all": page({name: {} for name in ("access_token", "id_token", "token_type", "id", "sub", "email")}),
    "a token with line ends": page({"access_token": "x\r\nX-Evil: 1", "token_type": "Bearer"}),
    "a redirect elsewhere": Fault(answer=Answer(status=302, headers={"Location": "http://127.0.0.1:1/"})),
    "a redirect to itself": Fault(answer=Answer(status=302, headers={"Location": "?"})),
    "2 MB": page({"access_token": "x" * 2_000_000}),
    "a length that is not kept": Fault(answer=Answer(body=b"{}", headers={"Content-Length": "100"})),
}


@dataclass(frozen=True)
class Attempt:
    """A login and how it ended."""

    browser: Browser
    answer: httpx.Response
    seconds: float

    @classmethod
    def make(cls, browser: Browser, endpoint: str) -> Attempt:
        started = time.monotonic()
        answer = browser.login(endpoint.partition(":")[0], person="grace")
        return cls(browser, answer, time.monotonic() - started)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_provider_gives_a_page_and_lets_nobody_in(provider, browser, fault, endpoint):
    with provider.fault(endpoint, FAULTS[fault]):
        attempt = Attempt.make(browser, endpoint)

    # GitHub tells who is a member by the status alone.
    is_told = endpoint != "github:membership" or FAULTS[fault].hangs_up or FAULTS[fault].answer.status in OUTAGES
    assert_refused(browser, attempt.answer, *({503} if fault in UNHEARD and is_told else {403, 503}))
    assert attempt.seconds < LONGEST_SECONDS


def hang_at(endpoint: str, provider: IdentityProvider, browser: Browser, pool: Executor) -> Future[Attempt]:
    """A login that has come to an endpoint which does not answer it; those after it are answered."""
    before = len(provider.faulted)
    with provider.fault(endpoint, Fault.hang(30)):
        attempt = pool.submit(Attempt.make, browser, endpoint)
        wait_until(lambda: endpoint in provider.faulted[before:], LONGEST_SECONDS, f"the login to hang at {endpoint}")
    return attempt


@pytest.fixture(scope="module")
def hanging(provider, hub) -> Iterator[dict[str, Future[Attempt]]]:
    """A login at each endpoint that does not answer, all at once: the hub waits for seconds."""
    with ExitStack() as browsers, ThreadPoolExecutor(len(ENDPOINTS)) as pool:
        yield {each: hang_at(each, provider, browsers.enter_context(hub.browser()), pool) for each in ENDPOINTS}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_silent_provider_gives_a_page_and_lets_nobody_in(hanging, endpoint):
    attempt = hanging[endpoint].result()

    assert_refused(attempt.browser, attempt.answer, 503)
    assert attempt.seconds < LONGEST_SECONDS


@pytest.mark.parametrize("name", PROVIDERS)
def test_after_an_outage_people_come_in_again(provider, browser, name):
    for fault in ("500", "reset", "garbage"):
        with provider.fault(f"{name}:token", FAULTS[fault]):
            assert_refused(browser, browser.login(name, person="grace"), 503)

    assert browser.login(name, person="grace").status_code == 200


@pytest.mark.parametrize("endpoint", ["github:token", "google:userinfo", "oidc:token"])
def test_a_slow_provider_is_waited_for(provider, browser, endpoint):
    with provider.fault(endpoint, Fault.slow(2.0)):
        assert browser.login(endpoint.partition(":")[0], person="grace").status_code == 200


def test_one_provider_that_hangs_does_not_hold_the_other_up(provider, hub, browser):
    with (
        provider.fault("github:token", Fault.hang(15)),
        hub.browser() as waiting,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(waiting.login, "github", "grace")
        wait_until(lambda: provider.requests and provider.requests[-1].path.endswith("/access_token"), 20, "the hang")
        assert browser.login("google", person="grace").status_code == 200
        assert not answer.done()
        assert answer.result().status_code == 503


@pytest.mark.parametrize("name", ["google", "oidc"])
def test_an_issuer_without_metadata_or_keys_gives_a_page_and_recovers(uninformed_hub, name):
    provider = uninformed_hub.provider
    for endpoint in (f"{name}:discovery", f"{name}:jwks"):  # asked until it is known, then no more
        for fault in ("500", "reset", "garbage", "null"):
            before = len(provider.faulted)
            with provider.fault(endpoint, FAULTS[fault]), uninformed_hub.browser() as browser:
                assert_refused(browser, browser.login(name, person="grace"), 503)
            assert provider.faulted[before:] == [endpoint], f"{fault}: what was heard before is not taken for an answer"
    with uninformed_hub.browser() as browser:
        assert browser.login(name, person="grace").status_code == 200
