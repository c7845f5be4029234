"""What a person's browser does at Keycloak: the login form, the session's cookies, the end of the session."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Self

import httpx


class KeycloakBrowser:
    """Keeps Keycloak's cookies, as the browser does in which the hub is open."""

    def __init__(self) -> None:
        hooks = {"response": [lambda _: self._send_cookies_to_loopback()]}
        self.client = httpx.Client(timeout=60, trust_env=False, event_hooks=hooks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def asks_for_password(self, address: str) -> bool:
        """Whether the hub's request to log somebody in leads to the form; it does not while a session lasts."""
        return self.client.get(address).status_code == httpx.codes.OK

    def log_in(self, address: str, login: str = "", password: str = "") -> str:
        """Open the hub's request, fill the form in if there is one; returns where Keycloak sends the browser."""
        answer = self.client.get(address)
        if not answer.has_redirect_location:
            form = _Form.of(answer)
            answer = self.client.post(
                form.action, data={**form.hidden, "username": login, "password": password, "credentialId": ""}
            )
        assert answer.has_redirect_location, f"{answer.status_code}: {answer.text}"
        return answer.headers["location"]

    def log_out(self, address: str) -> str:
        """Open the address that ends the session; returns where Keycloak sends the browser without a question."""
        answer = self.client.get(address)
        assert answer.has_redirect_location, f"{answer.status_code}: {answer.text}"
        return answer.headers["location"]

    def _send_cookies_to_loopback(self) -> None:
        # Keycloak and browsers hold http on loopback to be as safe as https; Python's cookies do not.
        for cookie in self.client.cookies.jar:
            cookie.secure = False


class _Form(HTMLParser):
    """The address and the hidden fields of a page's form."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.hidden: dict[str, str] = {}

    @classmethod
    def of(cls, page: httpx.Response) -> _Form:
        form = cls()
        form.feed(page.text)
        assert page.is_success, f"{page.status_code}: {page.text}"
        assert form.action, page.text
        return form

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = found.get("action", "")
        elif tag == "input" and found.get("type") == "hidden":
            self.hidden[found.get("name", "")] = found.get("value", "")
