"""Reads every kind of reference to a secret, with the keyset and the Vault that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from workbench.errors import SecretUnavailable, WorkbenchError
from workbench.resolving import References
from workbench.sections import KeysSettings, key_variables
from workbench.security.kept_secrets import KeptSecrets
from workbench.security.keyset.opening import Keys
from workbench.security.keyset.roots import read_private
from workbench.security.vault import VaultServer, VaultSilent
from workbench.settings import Settings

ADDRESS, TOKEN = "WORKBENCH_KEYS_VAULT_ADDRESS", "WORKBENCH_KEYS_VAULT_TOKEN_FILE"


def references_of(settings: Settings, environment: Mapping[str, str]) -> References:
    """What reads the references of this process. Nothing is opened before it is needed.

    Args:
        settings: where the keyset and Vault are.
        environment: where references of `env:` are looked up; what leads to the root key cannot be referred to.
    """
    return references_at(settings.home, settings.keys, environment)


def references_at(home: Path, settings: KeysSettings, environment: Mapping[str, str]) -> References:
    """As `references_of`, for the workbench whose WORKBENCH_HOME is *home*."""

    def kept(name: str) -> SecretStr:
        try:
            return KeptSecrets.of(home, Keys.of(home, settings)).read(name)
        except SecretUnavailable:
            raise
        except WorkbenchError as error:
            raise SecretUnavailable(
                f"keyset:{name}", f"cannot be decrypted: {error.message}", remedy=error.remedy
            ) from None

    hidden = key_variables()
    variables = {name: value for name, value in environment.items() if name not in hidden}
    return References(variables, {"keyset": kept, "vault": _VaultSecrets(settings).read}, own=home / "keys")


@dataclass(frozen=True)
class _VaultSecrets:
    """Secrets of version 2 of Vault's key-value engine (developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2)."""

    settings: KeysSettings

    def read(self, name: str) -> SecretStr:
        """The field of `MOUNT/PATH#FIELD`, of its newest version."""
        path, _, field = name.partition("#")
        mount, _, place = path.partition("/")
        try:
            answer = self._server(name).ask("GET", f"{mount}/data/{place}")
        except VaultSilent as silent:
            reason = f"cannot be had: Vault at {self.settings.vault_address} does not answer: {silent}"
            raise SecretUnavailable(f"vault:{name}", reason, remedy="Look whether it runs and is unsealed.") from None
        except SecretUnavailable:
            raise
        except WorkbenchError as error:
            raise SecretUnavailable(f"vault:{name}", f"cannot be had: {error.message}", remedy=error.remedy) from None
        if answer.data is None:
            raise SecretUnavailable(
                f"vault:{name}",
                f"was refused by Vault: {answer.status} {answer.reasons}".rstrip(),
                remedy=f"Look whether it is there, and whether the token of {TOKEN} may read {mount}/data/{place}.",
            )
        value = (answer.data.get("data") or {}).get(field)
        if not isinstance(value, str):
            raise SecretUnavailable(
                f"vault:{name}", f"has no text in the field {field}", remedy="Correct the field behind #."
            )
        return SecretStr(value)

    def _server(self, name: str) -> VaultServer:
        settings = self.settings
        if not settings.vault_address or settings.vault_token_file is None:
            raise SecretUnavailable(
                f"vault:{name}", "is in a Vault that no setting names", remedy=f"Set {ADDRESS} and {TOKEN}."
            )
        token = read_private(settings.vault_token_file, what="token for Vault")
        return VaultServer(
            address=settings.vault_address,
            token=SecretStr(token.decode("utf-8", "replace").strip()),
            ca_file=settings.vault_ca_file,
        )
