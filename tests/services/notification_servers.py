"""Servers that take messages as those of Slack, PagerDuty and e-mail do, and that fail as they are told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from workbench.runtime.ports import LOOPBACK


@dataclass
class Endpoint:
    """What has come, and how the next request is answered."""

    status: int = 200
    port: int = 0
    requests: list[tuple[str, dict]] = field(default_factory=list)
    refuses: str = ""  #: what has it in its title is answered with 400, and not kept
    hangs: threading.Event | None = None  #: until it is set

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


@contextmanager
def http_endpoint() -> Iterator[Endpoint]:
    """An address that takes JSON; Slack answers `ok`, PagerDuty 202 with JSON."""
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            is_refused = bool(endpoint.refuses) and endpoint.refuses in body["title"]
            if not is_refused:
                endpoint.requests.append((self.path, body))
            if endpoint.hangs is not None:
                endpoint.hangs.wait(60)
                return
            answer = b"ok" if "/services/" in self.path else b'{"status": "success"}'
            self.send_response(400 if is_refused else endpoint.status)
            self.send_header("Content-Length", str(len(answer)))
            if 300 <= endpoint.status < 400:
                self.send_header("Location", f"{endpoint.url}/elsewhere")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        endpoint.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield endpoint
        finally:
            if endpoint.hangs is not None:
                endpoint.hangs.set()
            server.shutdown()
            thread.join(5)
