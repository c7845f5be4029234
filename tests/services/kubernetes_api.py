"""As much of Kubernetes' API server as Spark's driver asks: takes pods, keeps what was sent, and never runs one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.services.http_server import listening
from workbench.runtime.ports import LOOPBACK

LISTS = {"pods": "PodList", "configmaps": "ConfigMapList", "persistentvolumeclaims": "PersistentVolumeClaimList"}


@dataclass
class ApiServer:
    """Its address, and what it was sent, by kind."""

    url: str = ""
    sent: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)  #: of what was sent, in the same order

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.sent if each.get("kind") == kind]


@contextmanager
def running_api_server() -> Iterator[ApiServer]:
    """Listen on loopback until the end of the block."""
    api = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind = self.path.partition("?")[0].rpartition("/")[2]
            if "watch=true" in self.path or kind not in LISTS:
                self.answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})
            else:
                self.answer(200, {"kind": LISTS[kind], "apiVersion": "v1", "metadata": {}, "items": []})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            api.sent.append(body)
            api.paths.append(self.path)
            body["metadata"] = {**body["metadata"], "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
            self.answer(201, body)

        def do_DELETE(self) -> None:
            self.answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

        def answer(self, code: int, body: dict[str, Any]) -> None:
            text = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    with listening(Handler) as port:
        api.url = f"http://{LOOPBACK}:{port}"
        yield api
