"""Requests, answers and faults on the wire of the tests' identity provider."""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What came in; kept for asserts."""

    method: str
    path: str
    query: Mapping[str, str]
    form: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)  #: names in lower case
    body: bytes = field(default=b"", repr=False)

    @property
    def has_authorization(self) -> bool:
        return "authorization" in self.headers

    @property
    def token(self) -> str:
        """The token of the Authorization header, `Bearer` or GitHub's `token`."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token if kind.lower() in {"bearer", "token"} else ""

    @property
    def client(self) -> tuple[str, str]:
        """Client id and secret, from the header or the form (RFC 6749 §2.3.1)."""
        kind, _, encoded = self.headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
            return unquote(client_id), unquote(secret)
        return self.form.get("client_id", ""), self.form.get("client_secret", "")

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes out; a body that is no bytes is sent as JSON."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Refused(Exception):
    """Ends the handling of a request with an answer."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status} {body}")
        self.answer = Answer(status=status, body=body)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How an endpoint misbehaves. With `handled`, it does its work first and spoils the answer alone."""

    wait_seconds: float = 0.0
    answer: Answer | None = None  #: in place of the right one
    hangs_up: bool = False  #: the connection is reset
    handled: bool = False

    @classmethod
    def status(cls, status: int = 500, **headers: str) -> Fault:
        return cls(answer=Answer(status=status, body={"message": "out of order"}, headers=headers))

    @classmethod
    def too_many_requests(cls, retry_after_seconds: int = 30) -> Fault:
        return cls(
            answer=Answer(
                status=429, body={"message": "Too many requests"}, headers={"Retry-After": str(retry_after_seconds)}
            )
        )

    @classmethod
    def rate_limited(cls) -> Fault:
        """GitHub's answer when the limit of the hour is used up: 403, not 429."""
        headers = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "Retry-After": "60"}
        return cls(answer=Answer(status=403, body={"message": "API rate limit exceeded for user."}, headers=headers))

    @classmethod
    def hang(cls, seconds: float = 60.0) -> Fault:
        """No answer at all for *seconds*, then a reset."""
        return cls(wait_seconds=seconds, hangs_up=True)

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """The right answer, late."""
        return cls(wait_seconds=seconds)

    @classmethod
    def garbage(cls) -> Fault:
        return cls(answer=Answer(body=b"\x00\xff{not json", headers={"Content-Type": JSON}))

    @classmethod
    def html(cls) -> Fault:
        """A page where JSON is due, as a captive portal sends it."""
        return cls(answer=Answer(body=b"<html><h1>Welcome</h1></html>", headers={"Content-Type": "text/html"}))

    @classmethod
    def reset(cls) -> Fault:
        return cls(hangs_up=True)

    @classmethod
    def lost_answer(cls) -> Fault:
        """The work is done, nobody hears of it: a rotated refresh token is lost."""
        return cls(hangs_up=True, handled=True)


class Server(ThreadingHTTPServer):
    """Hands requests to *respond*; None resets the connection."""

    request_queue_size = 256
    daemon_threads = True

    def __init__(self, respond: Callable[[Request], Answer | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond = respond
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="identity", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hung up; their own test says what it expected."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_form = self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded")
        answer = self.server.respond(
            Request(
                method=self.command,
                path=url.path,
                query=dict(parse_qsl(url.query)),
                form=dict(parse_qsl(body.decode())) if is_form else {},
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
            )
        )
        if answer is None:
            self._reset()
        else:
            self._send(answer)

    do_POST = do_DELETE = do_GET  # noqa: N815 - http.server looks for these names

    def _send(self, answer: Answer) -> None:
        content = answer.encoded()
        self.send_response(answer.status)
        for name, value in {"Content-Type": JSON, "Content-Length": str(len(content)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.status != 204:
            self.wfile.write(content)

    def _reset(self) -> None:
        # With no time to linger, close sends RST and not FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *args: Any) -> None:
        """Requests are recorded, not printed."""
