"""Where the root key is that protects the keyset."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from workbench.sections.base import AbsolutePath, Section, is_loopback, variable


class KeysSettings(Section):
    """Where the root key is that protects the keyset."""

    root: Literal["file", "environment", "vault", "aws-kms"] = variable(
        "WORKBENCH_KEYS_ROOT", "file", "`file`, `environment`, `vault` or `aws-kms`: who keeps the root key"
    )
    root_file: AbsolutePath | None = variable(
        "WORKBENCH_KEYS_ROOT_FILE", None, "file of the root key; unset is `keys/root.key` under WORKBENCH_HOME"
    )
    root_key: SecretStr = variable(
        "WORKBENCH_KEYS_ROOT_KEY", SecretStr(""), "root key of `environment`: 64 random hexadecimal digits"
    )
    vault_address: str = variable("WORKBENCH_KEYS_VAULT_ADDRESS", "", "`https://host:8200` of Vault or OpenBao")
    vault_mount: str = variable("WORKBENCH_KEYS_VAULT_MOUNT", "transit", "where its transit engine is mounted")
    vault_key: str = variable("WORKBENCH_KEYS_VAULT_KEY", "workbench", "name of the key in that engine")
    vault_token_file: AbsolutePath | None = variable(
        "WORKBENCH_KEYS_VAULT_TOKEN_FILE", None, "file of mode 0600 with a token that may encrypt and decrypt with it"
    )
    vault_ca_file: AbsolutePath | None = variable(
        "WORKBENCH_KEYS_VAULT_CA_FILE", None, "PEM file of the authority of Vault's certificate; unset is the system's"
    )
    kms_key: str = variable("WORKBENCH_KEYS_KMS_KEY", "", "id, ARN or `alias/NAME` of a symmetric key in AWS KMS")

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        found = []
        has_key = bool(self.root_key.get_secret_value())
        if has_key and self.root != "environment":
            found.append(
                "WORKBENCH_KEYS_ROOT_KEY is set but WORKBENCH_KEYS_ROOT is not `environment`. Unset the one, or set the other."
            )
        if self.root == "environment" and not has_key:
            found.append(
                "WORKBENCH_KEYS_ROOT is `environment` but WORKBENCH_KEYS_ROOT_KEY is not set. Set it to 64 random hexadecimal digits."
            )
        if self.root == "aws-kms" and not self.kms_key:
            found.append("WORKBENCH_KEYS_ROOT is `aws-kms` but WORKBENCH_KEYS_KMS_KEY is not set. Set it to a key.")
        return found + (self._vault_problems() if self.root == "vault" or self.vault_address else [])

    def file(self, home: Path) -> Path:
        """The file of the root key of the workbench whose WORKBENCH_HOME is *home*."""
        return self.root_file or home / "keys" / "root.key"

    def _vault_problems(self) -> list[str]:
        name, found = "WORKBENCH_KEYS_VAULT_ADDRESS", []
        try:
            address = urlsplit(self.vault_address)
            host = address.hostname or ""
        except ValueError:
            host = ""
        if not host or address.scheme not in {"http", "https"} or address.username is not None:
            found.append(f"{name} is no address. Write https://host:8200.")
        elif address.scheme == "http" and not is_loopback(host):
            found.append(f"{name} would carry keys in clear. Write https://.")
        if self.vault_token_file is None:
            found.append("WORKBENCH_KEYS_VAULT_TOKEN_FILE is not set. Set it to a file with a token, of mode 0600.")
        return found
