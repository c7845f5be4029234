"""A root key that never leaves the transit engine of HashiCorp Vault or OpenBao.

Source: developer.hashicorp.com/vault/api-docs/secret/transit. Needs the extra `vault`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from workbench.errors import RootKeyUnavailable, WrongKey
from workbench.security.vault import VaultServer, VaultSilent

BAD_REQUEST = 400


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
        server = VaultServer(address=self.address, token=self.token, ca_file=self.ca_file)
        try:
            answer = server.ask("POST", f"{self.mount}/{verb}/{self.key}", body)
        except VaultSilent as silent:
            raise self._unavailable(str(silent)) from None
        if answer.data is not None:
            return answer.data
        if verb == "decrypt" and answer.status == BAD_REQUEST:
            raise WrongKey(
                f"the key {self.name} at {self.address} does not unwrap the keyset: {answer.reasons}",
                remedy="Name the key it was made with; its min_decryption_version must not be above the one that wrapped it.",
            )
        raise self._unavailable(f"it answered {answer.status} {answer.reasons}".rstrip())

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
