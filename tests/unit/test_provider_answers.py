"""What a provider's refusal means: a no to the person, or nothing that is about them."""

from __future__ import annotations

import asyncio
import json
import logging
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import web
from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders

from hub.authentication.answers import TokenNotTaken, asked
from hub.authentication.github import GitHub
from hub.authentication.handlers import _escaped, _Page
from workbench.errors import ProviderRefused, ProviderUnavailable

PAGE = b"<html><h1>Request blocked</h1></html>"
LIMIT = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}
ADDRESS = {
    "message": "Although you appear to have the correct authorization credentials, the `example` organization has an "
    "IP allow list enabled, and your IP address is not permitted to access this resource."
}
ABUSE = {"message": "You have triggered an abuse detection mechanism."}
GOOGLES_LIMIT = {"error": {"code": 403, "errors": [{"reason": "rateLimitExceeded"}], "message": "Rate Limit Exceeded"}}
GOOGLES_NO = {"error": {"code": 401, "message": "Invalid Credentials", "status": "UNAUTHENTICATED"}}
SUSPENDED = {"message": "Sorry. Your account was suspended."}
SAML = {"message": "Resource protected by organization SAML enforcement."}
CREDENTIALS = {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}
SPRINGS_NO = {"status": 401, "error": "Unauthorized", "path": "/userinfo"}
BEARER = {"WWW-Authenticate": 'Bearer realm="staff", error="invalid_token", error_description="it is too old"'}


def response(status: int, body: Any, headers: dict[str, str]) -> HTTPResponse:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = HTTPRequest("https://provider.example")
    return HTTPResponse(request, status, headers=HTTPHeaders(headers), buffer=BytesIO(content))


def meaning(status: int, body: Any = b"", *, at_api: bool = True, **headers: str) -> type[Exception]:
    async def answer() -> None:
        raise HTTPClientError(status, response=response(status, body, headers))

    with pytest.raises((ProviderRefused, ProviderUnavailable)) as found:
        asyncio.run(asked("provider", answer(), with_persons_token=at_api))
    return found.type


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (403, LIMIT, {"X-RateLimit-Remaining": "14"}),
        (403, ABUSE, {}),
        (403, ADDRESS, {}),
        (403, SUSPENDED, {"Retry-After": "60"}),
        (403, {"message": "This installation has been suspended"}, {}),
        (403, GOOGLES_LIMIT, {}),
        (403, PAGE, {}),
        (403, b"", {}),
        (403, {"message": "Request forbidden by administrative rules."}, {}),
        (400, {"error": "invalid_request"}, {}),
    ],
)
def test_what_is_not_about_the_person_is_no_answer(status, body, headers):
    assert meaning(status, body, **headers) is ProviderUnavailable


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (PAGE, {}),
        (b"", {}),
        (b"", {"WWW-Authenticate": 'Basic realm="proxy"'}),
        ({"error": "invalid_client"}, {}),
        (SPRINGS_NO, {}),
    ],
)
def test_a_401_of_an_api_that_does_not_say_why_is_no_answer_yet(body, headers):
    assert meaning(401, body, **headers) is TokenNotTaken
    assert issubclass(TokenNotTaken, ProviderUnavailable)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (401, CREDENTIALS, {}),
        (401, GOOGLES_NO, {}),
        (401, b"", BEARER),
        (401, b"Unauthorized", {"WWW-Authenticate": "Bearer"}),
        (400, {"error": "invalid_grant"}, {}),
        (403, {"error": "insufficient_scope"}, {}),
        (403, b"", {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}),
        (403, SUSPENDED, {}),
        (403, SAML, {}),
    ],
)
def test_a_no_to_the_person_is_a_no(status, body, headers):
    assert meaning(status, body, **headers) is ProviderRefused


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"", ProviderUnavailable), (CREDENTIALS, ProviderUnavailable), ({"error": "invalid_grant"}, ProviderRefused)],
)
def test_a_401_of_a_token_endpoint_is_about_the_client(body, expected):
    assert meaning(401, body, at_api=False) is expected


@pytest.mark.parametrize("body", [CREDENTIALS, PAGE, b""])
def test_a_wrong_secret_is_told_in_words_to_who_logs_in_and_in_the_log_and_is_in_neither(monkeypatch, caplog, body):
    async def httpfetch(*_: Any, **__: Any) -> None:
        raise HTTPClientError(401, response=response(401, body, {}))

    github = GitHub(client_id="workbench", client_secret="the-wrong-secret", token_url="https://github.example")
    monkeypatch.setattr(github, "httpfetch", httpfetch)
    with pytest.raises(ProviderUnavailable) as caught:
        asyncio.run(github.get_token_info(None, {"client_secret": "the-wrong-secret"}))

    request = SimpleNamespace(method="GET", path="/hub/github/callback", remote_ip="127.0.0.1")
    page = web.HTTPError(503, _escaped(caught.value))
    _Page.log_exception(SimpleNamespace(request=request, log=logging.getLogger()), type(page), page, None)

    for told in (str(page.log_message), caplog.text):
        assert "GitHub refuses this workbench itself: 401 to the id and secret of its client" in told
        assert "An administrator has to set the client's id and secret" in told
        assert "the-wrong-secret" not in told
    assert len(caplog.text.splitlines()) == 1


@pytest.mark.parametrize(
    ("exchanged", "expected"),
    [
        ((200, {"access_token": "fresh", "refresh_token": "next"}), None),
        ((400, {"error": "invalid_grant"}), ProviderRefused),
        ((401, PAGE), ProviderUnavailable),
    ],
)
def test_what_a_401_of_an_api_means_is_asked_with_the_refresh_token(monkeypatch, exchanged, expected):
    github = GitHub(github_url="https://github.example")
    kept: list[dict[str, Any]] = []

    async def httpfetch(address: str, *_: Any, headers: dict[str, str], **__: Any) -> Any:
        is_exchange = address == github.token_url
        is_good = "fresh" in headers.get("Authorization", "")
        status, body = exchanged if is_exchange else (200, {"id": 1, "login": "ada"}) if is_good else (401, SPRINGS_NO)
        if status != 200:
            raise HTTPClientError(status, response=response(status, body, {}))
        return body

    async def keep(state: dict[str, Any]) -> None:
        kept.append(state)

    monkeypatch.setattr(github, "httpfetch", httpfetch)
    state = {"token_response": {"access_token": "old", "token_type": "Bearer"}, "refresh_token": "good once"}
    asking = github.refresh(state, keep)

    if expected:
        with pytest.raises(expected):
            asyncio.run(asking)
        assert kept == []
    else:
        assert asyncio.run(asking)["account"].login == "ada"
        assert kept[0]["refresh_token"] == "next"


@pytest.mark.parametrize(
    ("status", "body", "is_told"),
    [
        (403, LIMIT, False),
        (403, ABUSE, False),
        (403, ADDRESS, False),
        (403, PAGE, False),
        (404, PAGE, False),
        (403, {"message": "the `example` organization has enabled OAuth App access restrictions"}, True),
        (403, SAML, True),
        (404, {"message": "Not Found"}, True),
        (302, b"", True),
    ],
)
def test_only_githubs_own_no_says_that_somebody_is_no_member(monkeypatch, status, body, is_told):
    async def httpfetch(*_: Any, **__: Any) -> HTTPResponse:
        return response(status, body, {"X-RateLimit-Remaining": "14"})

    github = GitHub(allowed_organizations={"example"}, github_url="https://github.example")
    monkeypatch.setattr(github, "httpfetch", httpfetch)
    found = github.find_groups({"access_token": "x", "token_type": "bearer"}, {"login": "ada"})

    if is_told:
        assert list(asyncio.run(found)) == []
    else:
        with pytest.raises(ProviderUnavailable):
            asyncio.run(found)
