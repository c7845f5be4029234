"""What a person's browser does at the hub, over real HTTP: cookies, redirects and XSRF tokens."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx

HOPS = 20
ANSWER_SECONDS = 60


@cache
def trust() -> ssl.SSLContext:
    """What httpx trusts. It would read that anew for each client, which takes longer than most requests."""
    return httpx.create_ssl_context(trust_env=False)


def send(method: str, address: str, *, token: str = "", **options: Any) -> httpx.Response:
    """A request of nobody's browser, with a token of the hub or none; *options* are those of `httpx.request`."""
    if token:
        options["headers"] = {**options.get("headers", {}), "Authorization": f"token {token}"}
    defaults: dict[str, Any] = {"timeout": ANSWER_SECONDS, "trust_env": False, "verify": trust()}
    return httpx.request(method, address, **{**defaults, **options})


class Browser:
    """Keeps the hub's cookies and follows no redirect unless it is told to.

    Args:
        url: the hub's address.
        options: of httpx.Client, such as `headers` or `verify`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        defaults: dict[str, Any] = {"timeout": ANSWER_SECONDS, "trust_env": False, "verify": trust()}
        self.client = httpx.Client(base_url=url, **{**defaults, **options})
        self.cookies = self.client.cookies

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def begin(self, provider: str, **parameters: str) -> str:
        """Press a provider's button, with parameters such as `next`; returns its address with state and challenge."""
        answer = self.get(f"/hub/{provider}/login", params=parameters)
        assert answer.status_code == 302, f"{answer.status_code}: {answer.text[:500]}"
        return answer.headers["location"]

    def consent(self, address: str, person: str = "") -> str:
        """What the provider's page does; returns the callback's address with code and state."""
        answer = _ask_provider(address, person)
        assert answer.status_code == 302, f"{answer.status_code}: {answer.text[:500]}"
        return answer.headers["location"]

    def finish(self, callback: str) -> httpx.Response:
        """Come back from the provider; the answer is not followed."""
        return self.get(callback)

    def login(self, provider: str, person: str = "", **parameters: str) -> httpx.Response:
        """Log in and follow all redirects; the last answer is the page at `next`, by default home, or what went wrong.

        `history` of the answer has the others, the provider's included.
        """
        return self.follow(self.get(f"/hub/{provider}/login", params={"next": "/hub/home", **parameters}), person)

    def follow(self, answer: httpx.Response, person: str = "") -> httpx.Response:
        """Follow redirects to their end, at the provider too."""
        history: list[httpx.Response] = []
        while answer.has_redirect_location and len(history) < HOPS:
            history.append(answer)
            address = urljoin(str(answer.request.url), answer.headers["location"])
            is_here = urlsplit(address)[:2] == urlsplit(self.url)[:2]
            answer = self.get(address) if is_here else _ask_provider(address, person)
        assert len(history) < HOPS, f"redirected for ever: {[str(each.request.url) for each in history]}"
        answer.history = history
        return answer

    def logout(self) -> httpx.Response:
        """Log out and follow all redirects."""
        return self.follow(self.get("/hub/logout"))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, data: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        """Send a form of the hub, with the `_xsrf` field that its pages put there."""
        return self.client.post(path, data={"_xsrf": self.xsrf(), **(data or {})}, **options)

    def api(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        """Call the hub's API as its pages do, with cookies and X-XSRFToken; *path* begins behind `/hub/api`."""
        headers = {"X-XSRFToken": self.xsrf(), **options.pop("headers", {})}
        return self.client.request(method, f"/hub/api{path}", headers=headers, **options)

    def xsrf(self) -> str:
        """The hub's token of this login, which a page brings."""
        if not self._xsrf_cookies():
            self.get("/hub/home")
        return next(iter(self._xsrf_cookies()), "")

    def is_logged_in(self) -> bool:
        """Whether the hub still knows who this is."""
        return self.get("/hub/home").status_code == 200

    def _xsrf_cookies(self) -> list[str]:
        return [each.value or "" for each in self.cookies.jar if each.name == "_xsrf" and each.path == "/hub/"]


def changed(address: str, **changes: str | None) -> str:
    """The address with parameters set, or removed by None: what attackers do."""
    url = urlsplit(address)
    query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    kept = {name: value for name, value in {**query, **changes}.items() if value is not None}
    return url._replace(query=urlencode(kept)).geturl()


def _ask_provider(address: str, person: str) -> httpx.Response:
    # A browser's own cookies of the hub are not the provider's.
    headers = {"X-Test-Person": person} if person else {}
    return send("GET", address, headers=headers)
