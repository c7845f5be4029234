"""What Vault's engines and AWS KMS answer to the requests that the workbench makes. Their real servers are no package.

The keys are real: what was encrypted for one context or by another key is refused as they do it.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.of-the-test"


@dataclass
class KeyService:
    """One server with one key, `workbench`."""

    port: int
    key: bytes = field(default_factory=lambda: os.urandom(32))
    asked: list[str] = field(default_factory=list)
    is_sealed: bool = False
    kept: dict[str, dict[str, str]] = field(default_factory=dict)  #: by path of the key-value engine

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def encrypt(self, plaintext: bytes, context: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + AESGCM(self.key).encrypt(nonce, plaintext, context)

    def decrypt(self, sealed: bytes, context: bytes) -> bytes:
        return AESGCM(self.key).decrypt(sealed[:12], sealed[12:], context)


@contextmanager
def running_key_service() -> Iterator[KeyService]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    service = KeyService(server.server_address[1])
    server.service = service  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        # developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
        service: KeyService = self.server.service  # type: ignore[attr-defined]
        service.asked.append(self.path)
        found = service.kept.get(self.path.removeprefix("/v1/"))
        if service.is_sealed:
            status, answer = 503, {"errors": ["Vault is sealed"]}
        elif self.headers["X-Vault-Token"] != TOKEN:
            status, answer = 403, {"errors": ["permission denied"]}
        elif found is None:
            status, answer = 404, {"errors": []}
        else:
            status, answer = 200, {"data": {"data": found, "metadata": {"version": 3}}}
        self._answer(status, answer)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        service: KeyService = self.server.service  # type: ignore[attr-defined]
        target = self.headers.get("X-Amz-Target")
        service.asked.append(target or self.path)
        status, answer = self._kms(service, target, body) if target else self._vault(service, body)
        self._answer(status, answer)

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _vault(self, service: KeyService, body: dict[str, str]) -> tuple[int, dict[str, Any]]:
        # developer.hashicorp.com/vault/api-docs/secret/transit
        if service.is_sealed:
            return 503, {"errors": ["Vault is sealed"]}
        verb, name = self.path.removeprefix("/v1/transit/").split("/")
        if self.headers["X-Vault-Token"] != TOKEN or name != "workbench":
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        context = base64.b64decode(body["associated_data"])
        if verb == "encrypt":
            sealed = service.encrypt(base64.b64decode(body["plaintext"]), context)
            return 200, {"data": {"ciphertext": f"vault:v1:{base64.b64encode(sealed).decode()}", "key_version": 1}}
        try:
            plaintext = service.decrypt(base64.b64decode(body["ciphertext"].removeprefix("vault:v1:")), context)
        except (InvalidTag, ValueError):
            return 400, {"errors": ["cipher: message authentication failed"]}
        return 200, {"data": {"plaintext": base64.b64encode(plaintext).decode()}}

    def _kms(self, service: KeyService, target: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        # docs.aws.amazon.com/kms/latest/APIReference, Encrypt and Decrypt
        if "Authorization" not in self.headers or body["KeyId"] != "alias/workbench":
            return 400, {"__type": "NotFoundException", "message": "Alias is not found."}
        context = json.dumps(body["EncryptionContext"], sort_keys=True).encode()
        if target == "TrentService.Encrypt":
            sealed = service.encrypt(base64.b64decode(body["Plaintext"]), context)
            return 200, {"CiphertextBlob": base64.b64encode(sealed).decode(), "KeyId": body["KeyId"]}
        try:
            plaintext = service.decrypt(base64.b64decode(body["CiphertextBlob"]), context)
        except (InvalidTag, ValueError):
            return 400, {"__type": "InvalidCiphertextException"}
        return 200, {"Plaintext": base64.b64encode(plaintext).decode(), "KeyId": body["KeyId"]}

    def log_message(self, *arguments: object) -> None:
        """Nothing: tests look at `asked`."""
