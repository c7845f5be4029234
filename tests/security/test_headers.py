"""One crawl of every route: what each response must carry, whoever made it, with and without TLS."""

from __future__ import annotations

import re
from contextlib import suppress
from http.cookies import SimpleCookie

import httpx
import psutil
import pytest

from tests.security.conftest import TRUSTED_ORIGIN
from tests.services.proxied_hub import ProxiedHub, routes, running_hub
from tests.services.workbench import wait_until

EXACT = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
ABSENT = ("server", "x-jupyterhub-version", "x-powered-by")
PLAN = {
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: https:",
}
NARROWED = {"frame-ancestors 'none'", "base-uri 'self'", "object-src 'none'"}
LAB = {
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob: https:",
    "worker-src 'self' blob:",
    "font-src 'self' data:",
}
FILES = ("/user/gh-ada/files/", "/user/gh-ada/nbconvert/", "/user/gh-ada/kernelspecs/")


@pytest.fixture(scope="module", params=["off", "generated"])
def hub(request, tmp_path_factory):
    if request.param == "generated":
        yield request.getfixturevalue("encrypted_hub")
        return
    with running_hub(tmp_path_factory.mktemp("tls-off"), WORKBENCH_HUB_CORS_ORIGINS=TRUSTED_ORIGIN) as running:
        running.start_server_of("ada")
        yield running


@pytest.fixture
def browser(hub):
    """Ada, in her hub and in her server."""
    with hub.client() as client:
        hub.log_in(client)
        assert client.get("/user/gh-ada/lab", follow_redirects=True).status_code == 200
        yield client


def problems(hub: ProxiedHub, answer: httpx.Response, path: str) -> list[str]:
    """What the response lacks or has too much of."""
    headers = answer.headers
    found = [f"{name}: {headers.get(name)}" for name, value in EXACT.items() if headers.get(name) != value]
    found += [f"{name} is there" for name in ABSENT if name in headers]
    if "camera=()" not in headers.get("permissions-policy", ""):
        found.append("permissions-policy")
    if ("strict-transport-security" in headers) is not hub.is_encrypted:
        found.append(f"strict-transport-security: {headers.get('strict-transport-security')}")
    policy = set(headers.get("content-security-policy", "").split("; "))
    if policy != expected_policy(hub, path):
        found.append(f"content-security-policy: {policy}")
    return found + [each for line in headers.get_list("set-cookie") for each in cookie_problems(hub, line)]


def expected_policy(hub: ProxiedHub, path: str) -> set[str]:
    if not f"{path}/".startswith("/user/gh-ada/"):
        return PLAN | NARROWED
    sockets = hub.url.replace("http", "ws", 1)
    files = {"sandbox allow-scripts"} if path.startswith(FILES) else set()
    return LAB | NARROWED | {f"connect-src 'self' {sockets}"} | files


def cookie_problems(hub: ProxiedHub, line: str) -> list[str]:
    ((name, cookie),) = SimpleCookie(line).items()
    if not cookie.value:
        return []  # taken back: nothing is left to guard
    # JupyterHub's and Jupyter's own scripts read `_xsrf`, and send it back in a header.
    found = [] if cookie["httponly"] or name == "_xsrf" else [f"{name} without HttpOnly"]
    found += [] if cookie["samesite"] in ("Lax", "Strict") else [f"{name} without SameSite"]
    return found + ([f"{name} without Secure"] if hub.is_encrypted and not cookie["secure"] else [])


def example(pattern: str) -> str:
    """A path that the pattern of a handler matches."""

    def walk(tree: object) -> str:
        text = ""
        for operator, value in tree:
            match str(operator):
                case "LITERAL":
                    text += chr(value)
                case "ANY" | "NOT_LITERAL":
                    text += "x"
                case "IN":
                    kind, detail = value[0]
                    text += {"LITERAL": chr, "RANGE": lambda ends: chr(ends[0])}.get(str(kind), lambda _: "x")(detail)
                case "SUBPATTERN":
                    text += walk(value[3])
                case "BRANCH":
                    text += walk(value[1][0])
                case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                    text += walk(value[2]) * max(value[0], min(1, int(value[1])))
        return text

    return walk(re._parser.parse(pattern))


def paths(hub: ProxiedHub) -> list[str]:
    """Every handler of the hub and of the user's server, and files that are there."""
    found = [example(pattern) for kind in ("hub", "server") for pattern in routes(hub, kind)]
    named = [
        "/hub/static/css/style.min.css",
        "/hub/logo",
        "/hub/nowhere",
        "/nowhere",
        "/user/nobody/lab",
        "/user/gh-ada",
    ]
    named += ["/user/gh-ada/files/00-start-here.ipynb", "/user/gh-ada/nbconvert/html/00-start-here.ipynb"]
    named += ["/user/gh-ada/api/kernels", "/user/gh-ada/api/contents", "/user/gh-ada/static/favicon.ico"]
    return sorted({path if path.startswith("/") else f"/{path}" for path in [*found, *named]})


def calls_of(path: str) -> list[tuple[str, str]]:
    """Who calls it how. A call as Ada changes nothing."""
    # JupyterLab's handler of licenses breaks while it refuses, and never answers.
    methods = () if "/lab/api/licenses" in path else ("GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE")
    return [*(("stranger", method) for method in methods), *([("ada", "GET")] if "logout" not in path else [])]


def test_every_route_carries_every_header(hub, browser):
    found, answers = [], 0
    everything = paths(hub)
    with hub.client() as stranger:
        clients = {"stranger": stranger, "ada": browser}
        for path, (who, method) in ((each, call) for each in everything for call in calls_of(each)):
            answers += 1
            try:
                # Some answers are streams without an end.
                with clients[who].stream(method, path, timeout=10) as answer:
                    found += [
                        f"{method} {path} as {who} {answer.status_code}: {each}" for each in problems(hub, answer, path)
                    ]
            except httpx.ReadTimeout:
                found.append(f"{method} {path} as {who}: no answer")
    assert not found, "\n".join(found)
    assert len([path for path in everything if path.startswith("/hub/")]) > 60
    assert len([path for path in everything if path.startswith("/user/gh-ada/")]) > 50
    assert answers > 700


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /hub/login HTTP/1.0",
        "FOO /hub/login HTTP/1.1",
        "GET http://evil.example/hub/login HTTP/1.1",
        "GET /hub/%2e%2e/%2F%5C%00 HTTP/1.1",
        "GET //evil.example/ HTTP/1.1",
    ],
)
def test_odd_requests_are_answered_with_the_headers_too(hub, request_line):
    answer = parsed(hub.raw(f"{request_line}\r\nHost: other.example\r\nConnection: close\r\n\r\n".encode()))

    assert not problems(hub, answer, "/hub/")


def test_a_websocket_that_is_refused_carries_them_too(hub):
    request = (
        b"GET /user/gh-ada/terminals/websocket/1 HTTP/1.1\r\nHost: other.example\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    answer = parsed(hub.raw(request))

    assert answer.status_code == 403
    assert not problems(hub, answer, "/user/gh-ada/terminals/websocket/1")


@pytest.mark.parametrize("request_bytes", [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 2_000_000])
def test_what_is_not_http_is_told_nothing(hub, request_bytes):
    """These answers are made before any rule of the proxy; they are text, and name no program."""
    answer = hub.raw(request_bytes + b" HTTP/1.1\r\n\r\n").lower()

    assert answer.startswith((b"http/1.1 400", b"http/1.1 431"))
    assert b"content-type: text/plain" in answer
    assert b"server:" not in answer
    assert b"garbage" not in answer


def test_a_server_that_is_gone_is_reported_with_the_headers(hub):
    hub.start_server_of("grace")
    for process in psutil.Process(hub.process.pid).children():
        with suppress(psutil.Error):
            if "users-demo/gh-grace" in str(process.cwd()):
                process.kill()

    with hub.client() as client:
        wait_until(lambda: client.get("/user/gh-grace/api").status_code == 502, 10, "the proxy to miss the server")
        answer = client.get("/user/gh-grace/files/x")

    assert answer.status_code == 502
    assert answer.headers["content-security-policy"].endswith("sandbox allow-scripts")
    assert not [each for each in problems(hub, answer, "") if not each.startswith("content-security-policy")]


def test_a_trusted_origin_may_call_with_credentials(hub):
    asked = {
        "Origin": TRUSTED_ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    with hub.client() as client:
        preflight = client.options("/hub/api/users", headers=asked)
        answer = client.get("/hub/api", headers={"Origin": TRUSTED_ORIGIN})

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-methods"] == "GET,POST,PUT,DELETE"
    assert "Content-Type" in preflight.headers["access-control-allow-headers"]
    assert not problems(hub, preflight, "/hub/api/users")
    for each in (preflight, answer):
        assert each.headers["access-control-allow-origin"] == TRUSTED_ORIGIN
        assert each.headers["access-control-allow-credentials"] == "true"
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://trusted-domain.com.evil.example",
        "https://evil-trusted-domain.com",
        "https://sub.trusted-domain.com",
        "https://trusted-domain.com:8443",
        "http://trusted-domain.com",
        "https://trusted-domain.com@evil.example",
        "https://trusted-domainxcom",
    ],
)
@pytest.mark.parametrize("path", ["/hub/api", "/user/gh-ada/api"])
def test_no_other_origin_may_call(hub, origin, path):
    with hub.client() as client:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for answer in (client.get(path, headers={"Origin": origin}), client.options(path, headers=asked)):
            assert "access-control-allow-origin" not in answer.headers


def parsed(answer: bytes) -> httpx.Response:
    head, _, _ = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return httpx.Response(int(status.split()[1]), headers=[tuple(line.split(": ", 1)) for line in lines])
