"""A Schema Registry over HTTP, with the answers and error codes of Confluent's where clients look at them.

Source: "Schema Registry API Reference" (docs.confluent.io). It checks no compatibility (`refuse` says
what the next answers are), and it takes and gives Protobuf as serialized descriptors only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: int, message: str) -> None:
        self.status, self.code, self.message = status, code, message
        super().__init__(message)


@dataclass
class RunningRegistry:
    """A registry that answers; what it holds, and what it was asked."""

    url: str = ""
    username: str = ""
    password: str = ""
    schemas: list[dict[str, Any]] = field(default_factory=list)  #: id 1 is the first
    subjects: dict[str, list[int]] = field(default_factory=dict)  #: ids, version 1 is the first
    requests: list[str] = field(default_factory=list)
    refusal: Refused | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def refuse(self, status: int, code: int, message: str) -> None:
        """Answer with this error from now on."""
        self.refusal = Refused(status, code, message)

    def register(self, subject: str, text: str, kind: str = "AVRO", references: list[Any] | None = None) -> int:
        """Register a schema and return its id: equal schemas have one id, whatever their subjects are."""
        schema = {"schema": text, "schemaType": kind, "references": references or []}
        check(schema)
        if schema not in self.schemas:
            self.schemas.append(schema)
        schema_id = self.schemas.index(schema) + 1
        versions = self.subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    def answer(self, method: str, target: str, body: dict[str, Any]) -> Any:
        """The answer of an endpoint; raises Refused."""
        parts = [unquote(part) for part in urlsplit(target).path.strip("/").split("/")]
        with self.lock:
            self.requests.append(f"{method} {target}")
            if self.refusal:
                raise self.refusal
            match method, *parts:
                case "GET", "schemas", "ids", number:
                    return self._by_id(number)
                case "GET", "subjects", subject, "versions", version:
                    return self._by_version(subject, version)
                case "POST", "subjects", subject, "versions":
                    return {"id": self.register(subject, *_parts(body))}
                case "POST", "subjects", subject:
                    return self._lookup(subject, body)
                case "GET", "config", *_:
                    return {"compatibilityLevel": "BACKWARD"}
        raise Refused(404, 404, "HTTP 404 Not Found")

    def _by_id(self, number: str) -> dict[str, Any]:
        if not number.isdigit() or not 1 <= int(number) <= len(self.schemas):
            raise Refused(404, 40403, f"Schema {number} not found")
        return shown(self.schemas[int(number) - 1])

    def _versions(self, subject: str) -> list[int]:
        if subject not in self.subjects:
            raise Refused(404, 40401, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def _by_version(self, subject: str, version: str) -> dict[str, Any]:
        ids = self._versions(subject)
        number = len(ids) if version in ("latest", "-1") else int(version)
        if not 1 <= number <= len(ids):
            raise Refused(404, 40402, f"Version {version} not found.")
        return self._registered(subject, number)

    def _lookup(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        ids = self._versions(subject)
        text, kind, references = _parts(body)
        wanted = {"schema": text, "schemaType": kind, "references": references}
        for number, schema_id in enumerate(ids, start=1):
            if self.schemas[schema_id - 1] == wanted:
                return self._registered(subject, number)
        raise Refused(404, 40403, "Schema not found")

    def _registered(self, subject: str, number: int) -> dict[str, Any]:
        schema_id = self.subjects[subject][number - 1]
        schema = shown(self.schemas[schema_id - 1])
        return {"subject": subject, "version": number, "id": schema_id, **schema}


def check(schema: dict[str, Any]) -> None:
    """Refuse what is no schema, as a registry does."""
    try:
        if schema["schemaType"] == "PROTOBUF":
            from google.protobuf.descriptor_pb2 import FileDescriptorProto

            FileDescriptorProto.FromString(base64.b64decode(schema["schema"], validate=True))
        else:
            json.loads(schema["schema"])
    except ValueError as error:
        raise Refused(422, 42201, f"Invalid schema {schema['schema'][:50]!r}: {error}") from None


def shown(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema in an answer: AVRO is not said, no references are left out."""
    digest = hashlib.md5(json.dumps(schema, sort_keys=True).encode(), usedforsecurity=False).digest()
    answer = {"schema": schema["schema"], "guid": str(UUID(bytes=digest))}
    if schema["schemaType"] != "AVRO":
        answer["schemaType"] = schema["schemaType"]
    if schema["references"]:
        answer["references"] = schema["references"]
    return answer


@contextmanager
def running_registry(username: str = "", password: str = "") -> Iterator[RunningRegistry]:
    """A registry on a free loopback port until the block ends; with a user, it asks for the password."""
    registry = RunningRegistry(username=username, password=password)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._handle("GET")

        def do_POST(self) -> None:
            self._handle("POST")

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

        def _handle(self, method: str) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            try:
                self._check_user()
                status, answer = 200, registry.answer(method, self.path, json.loads(text or b"{}"))
            except Refused as refused:
                status, answer = refused.status, {"error_code": refused.code, "message": refused.message}
            self._send(status, json.dumps(answer).encode())

        def _check_user(self) -> None:
            given = self.headers.get("Authorization") or ""
            expected = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
            if registry.username and given != f"Basic {expected}":
                raise Refused(401, 401, "Unauthorized")

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="registry"')
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _parts(body: dict[str, Any]) -> tuple[str, str, list[Any]]:
    return body["schema"], body.get("schemaType") or "AVRO", body.get("references") or []
