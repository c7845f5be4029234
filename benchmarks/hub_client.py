"""A process that logs people in as browsers do, and tells how long each request took.

It is one of its own, so that its work and that of the identity provider do not wait for each other.
`log_in` starts it, hands it an `Order`, and reads what it prints.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from http.cookies import SimpleCookie
from threading import Barrier
from urllib.parse import urljoin, urlsplit

HOPS = 12
TIMEOUT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Order:
    """Who logs in where."""

    url: str  #: of the hub
    button: str  #: path, with query, that the button of a provider leads to
    people: Sequence[str]
    at_once: bool = False


@dataclass(frozen=True, kw_only=True)
class Login:
    """How one login went; lengths are seconds as the client saw them."""

    person: str
    seconds: float  #: from the button to the page behind the login
    hub_seconds: float  #: of that, the requests to the hub
    callback_seconds: float  #: of that, the one in which the hub asks the provider
    began: float  #: time.time()
    ended: float
    problem: str = ""


def log_in(order: Order) -> list[Login]:
    """Carry *order* out in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hub_client"],
        input=json.dumps(asdict(order)),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [Login(**each) for each in json.loads(done.stdout)]


class Browser:
    """One person's cookies and one connection to the hub, which is kept."""

    def __init__(self, url: str, person: str) -> None:
        self._here = urlsplit(url).netloc
        self._person = person
        self._cookies: dict[tuple[str, str], str] = {}
        self._connection = HTTPConnection(self._here, timeout=TIMEOUT_SECONDS)
        self._connection.connect()

    def log_in(self, button: str) -> Login:
        """Press the button and follow to the end; the provider is told who it is and asks nobody."""
        began, hub, callback = time.time(), 0.0, 0.0
        address, status, problem = f"http://{self._here}{button}", 302, ""
        started = time.perf_counter()
        for _ in range(HOPS):
            sent = time.perf_counter()
            try:
                status, target = self._get(address)
            except (OSError, HTTPException) as error:
                problem = f"{urlsplit(address).path}: {error!r}"
                break
            took = time.perf_counter() - sent
            is_hub = urlsplit(address).netloc == self._here
            hub += took if is_hub else 0.0
            callback += took if is_hub and "code=" in address else 0.0
            if not target:
                break
            address = urljoin(address, target)
        seconds = time.perf_counter() - started
        if not problem and (status != 200 or not address.endswith("/hub/home")):
            problem = f"{status} at {urlsplit(address).path}"
        return Login(
            person=self._person,
            seconds=seconds,
            hub_seconds=hub,
            callback_seconds=callback,
            began=began,
            ended=time.time(),
            problem=problem,
        )

    def _get(self, address: str) -> tuple[int, str]:
        """Status and, for a redirect, where to."""
        url = urlsplit(address)
        path = f"{url.path}?{url.query}" if url.query else url.path
        if url.netloc != self._here:
            connection = HTTPConnection(url.netloc, timeout=TIMEOUT_SECONDS)
            headers = {"X-Test-Person": self._person}
        else:
            connection = self._connection
            sent = {name: value for (name, below), value in self._cookies.items() if url.path.startswith(below)}
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in sent.items())} if sent else {}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if url.netloc == self._here:
            self._keep(answer.headers.get_all("Set-Cookie") or [])
        return answer.status, answer.getheader("Location", "") if answer.status in {302, 303} else ""

    def _keep(self, lines: Sequence[str]) -> None:
        for line in lines:
            for name, morsel in SimpleCookie(line).items():
                key = (name, morsel["path"] or "/")
                # JupyterHub clears a cookie by giving it no value.
                if morsel.value:
                    self._cookies[key] = morsel.coded_value
                else:
                    self._cookies.pop(key, None)


def carry_out(order: Order) -> list[Login]:
    """One after another, or all in the same moment."""
    browsers = [Browser(order.url, person) for person in order.people]
    if not order.at_once:
        return [browser.log_in(order.button) for browser in browsers]
    barrier = Barrier(len(browsers))

    def press(browser: Browser) -> Login:
        barrier.wait()
        return browser.log_in(order.button)

    with ThreadPoolExecutor(len(browsers)) as pool:
        return list(pool.map(press, browsers))


if __name__ == "__main__":
    print(json.dumps([asdict(each) for each in carry_out(Order(**json.load(sys.stdin)))]))
