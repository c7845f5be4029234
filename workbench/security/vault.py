"""Requests to HashiCorp Vault or OpenBao. Source: developer.hashicorp.com/vault/api-docs. Needs the extra `vault`."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from workbench.errors import RootKeyUnavailable

ANSWER_SECONDS = 10.0
OK = 200


class VaultSilent(Exception):
    """Vault gave no answer that can be read; says why."""


@dataclass(frozen=True)
class Answer:
    """What Vault said. Its data may be secret, and is not shown."""

    status: int
    data: dict[str, Any] | None  #: None when it refused
    reasons: str

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, reasons={self.reasons!r})"


@dataclass(frozen=True, kw_only=True)
class VaultServer:
    """Where a Vault is, and the token that it takes."""

    address: str  #: such as https://vault.example.com:8200
    token: SecretStr
    ca_file: Path | None = None  #: None trusts the system's authorities

    def ask(self, method: str, path: str, body: dict[str, str] | None = None) -> Answer:
        """Ask for *path* below `/v1/`. No proxy of the environment is used.

        Raises:
            RootKeyUnavailable: when the client is not installed.
            VaultSilent: when it does not answer, or in another language.
        """
        try:
            import httpx2
        except ModuleNotFoundError as error:
            raise RootKeyUnavailable(
                f"{error.name} is not installed", remedy="Install analytics-workbench[vault]."
            ) from None
        trust = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        headers = {"X-Vault-Token": self.token.get_secret_value(), "X-Vault-Request": "true"}
        url = f"{self.address.rstrip('/')}/v1/{path}"
        try:
            with httpx2.Client(verify=trust, timeout=ANSWER_SECONDS, trust_env=False) as client:
                answer = client.request(method, url, json=body, headers=headers)
                found = answer.json()
        except (httpx2.HTTPError, OSError, ValueError) as error:
            raise VaultSilent(str(error) or type(error).__name__) from None
        fields = found if isinstance(found, dict) else {}
        reasons = "; ".join(str(each) for each in fields.get("errors", []))[:200]
        data = fields.get("data")
        is_good = answer.status_code == OK and isinstance(data, dict)
        return Answer(answer.status_code, data if is_good else None, reasons)
