"""A root key that never leaves the transit engine of HashiCorp Vault or OpenBao.

Source: developer.hashicorp.com/vault/api-docs/secret/transit. Needs the extra `vault`.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from workbench.errors import RootKeyUnavailable, WrongKey

ANSWER_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class VaultRoot:
    """A key of the type `aes256-gcm96` or another one that takes associated data."""

    address: str  #: such as https://vault.example.com:8200
    key: str  #: the name of the key
    token: SecretStr  #: may only `update` on `encrypt/KEY` and `decrypt/KEY`
    mount: str = "transit"
    ca_file: Path | None = None  #: None trusts the system's authorities
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"vault:{self.mount}/{self.key}")

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """See `RootKey`."""
        body = {"plaintext": _text(key), "associated_data": _text(context)}
        wrapped = self._ask("encrypt", body).get("ciphertext")
        if not isinstance(wrapped, str) or not wrapped.isascii():
            raise self._unavailable("its answer has no ciphertext")
        return wrapped.encode()

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See `RootKey`."""
        body = {"ciphertext": wrapped.decode("ascii", "replace"), "associated_data": _text(context)}
        try:
            return base64.b64decode(str(self._ask("decrypt", body)["plaintext"]), validate=True)
        except (KeyError, binascii.Error):
            raise self._unavailable("its answer has no plaintext") from None

    def _ask(self, verb: str, body: dict[str, str]) -> dict[str, Any]:
        try:
            import httpx2
        except ModuleNotFoundError as error:
            raise RootKeyUnavailable(
                f"{error.name} is not installed", remedy="Install analytics-workbench[vault]."
            ) from None
        url = f"{self.address.rstrip('/')}/v1/{self.mount}/{verb}/{self.key}"
        headers = {"X-Vault-Token": self.token.get_secret_value(), "X-Vault-Request": "true"}
        try:
            with httpx2.Client(verify=self._trust(), timeout=ANSWER_SECONDS, trust_env=False) as client:
                answer = client.post(url, json=body, headers=headers)
                found = answer.json()
        except (httpx2.HTTPError, OSError, ValueError) as error:
            raise self._unavailable(str(error) or type(error).__name__) from None
        if answer.status_code == httpx2.codes.OK and isinstance(found.get("data"), dict):
            data: dict[str, Any] = found["data"]
            return data
        reasons = "; ".join(str(each) for each in found.get("errors", []))[:200]
        if verb == "decrypt" and answer.status_code == httpx2.codes.BAD_REQUEST:
            raise WrongKey(
                f"the key {self.name} at {self.address} does not unwrap the keyset: {reasons}",
                remedy="Name the key it was made with; its min_decryption_version must not be above the one that wrapped it.",
            )
        raise self._unavailable(f"it answered {answer.status_code} {reasons}".rstrip())

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))

    def _unavailable(self, reason: str) -> RootKeyUnavailable:
        return RootKeyUnavailable(
            f"Vault at {self.address} does not give the use of {self.name}: {reason}",
            remedy=(
                "Look whether it runs and is unsealed, and whether the token of WORKBENCH_KEYS_VAULT_TOKEN_FILE "
                f"may update {self.mount}/encrypt/{self.key} and {self.mount}/decrypt/{self.key}."
            ),
        )


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
