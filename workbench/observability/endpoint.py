"""Serves the metrics of a process over HTTP, on loopback, to whoever has the token."""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import SecretStr

logger = logging.getLogger(__name__)

PATH, LIVE_PATH, READY_PATH = "/metrics", "/livez", "/readyz"
REQUEST_SECONDS = 5.0
AT_ONCE = 8


class _Server(ThreadingHTTPServer):
    """Answers a few at once: whoever else is on this machine may connect as often as they like."""

    daemon_threads, block_on_close = True, False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to answer, or close the connection."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, in a thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in the log that somebody went away, and not on the terminal."""
        logger.debug("a request for metrics was broken off")


@contextmanager
def metrics_endpoint(
    token: SecretStr, registry: CollectorRegistry = REGISTRY, obstacle: Callable[[], str] = lambda: ""
) -> Iterator[int]:
    """Serve at a free port of 127.0.0.1, in a thread, while the context is open; gives the port.

    `/livez` and `/readyz` answer without the token, and say nothing but that.

    Args:
        token: that whoever reads metrics has to send.
        registry: of the metrics.
        obstacle: what keeps the process from its work now; empty when nothing does.

    Raises:
        OSError: when there is no port.
    """
    wanted = f"Bearer {token.get_secret_value()}".encode()

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS  # who connects and says nothing

        def do_GET(self) -> None:
            if self.path in {LIVE_PATH, READY_PATH}:
                reason = obstacle() if self.path == READY_PATH else ""
                self._answer(503 if reason else 200, "text/plain", f"{reason or 'ok'}\n".encode())
                return
            given = self.headers.get("Authorization", "").encode("utf-8", "replace")
            if not hmac.compare_digest(given, wanted):
                self._answer(401, "text/plain", b"the token in keys/metrics-token is needed\n")
            elif self.path != PATH:
                self._answer(404, "text/plain", b"metrics are at /metrics\n")
            else:
                self._answer(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry))

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass  # each scrape is no news

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(REQUEST_SECONDS)
