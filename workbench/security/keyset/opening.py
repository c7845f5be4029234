"""The keyset of a workbench, as its settings say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from workbench.errors import KeysetError, RootKeyUnavailable
from workbench.sections import KeysSettings
from workbench.security.keyset.document import RootKey
from workbench.security.keyset.file import KeysetFile
from workbench.security.keyset.inventory import Inventory
from workbench.security.keyset.kms import KmsRoot
from workbench.security.keyset.roots import FileRoot, VariableRoot, read_private
from workbench.security.keyset.vault import VaultRoot
from workbench.security.keyset.versions import Keyset


@dataclass(frozen=True)
class Keys:
    """A keyset and its inventory."""

    file: KeysetFile
    inventory: Inventory

    @classmethod
    def of(cls, home: Path, settings: KeysSettings) -> Self:
        """Those of the workbench whose WORKBENCH_HOME is *home*, whether or not they have been made.

        Raises:
            RootKeyUnavailable, KeysetError: when the token for Vault cannot be read, or others may read it.
        """
        return cls(KeysetFile(home / "keys" / "keyset.json", _root(home, settings)), Inventory.of(home))

    def ensure(self) -> bool:
        """Make them when there is no keyset yet, and make sure that it can be used; tells whether it was made.

        Raises:
            As `create` and `KeysetFile.read`.
        """
        is_new = False
        if not self.file.exists:
            try:
                self.create()
                is_new = True
            except KeysetError:
                # Another process may have been quicker.
                if not self.file.exists:
                    raise
        self.file.read()
        return is_new

    def create(self) -> Keyset:
        """Make root key (if it is a file that is not there), keyset and inventory.

        Raises:
            KeysetError: when there is a keyset.
            RootKeyUnavailable: when the root key is kept elsewhere and is not there.
        """
        if isinstance(self.file.root, FileRoot) and not self.file.exists:
            self.file.root.create()
        # Before the keyset: whoever finds a keyset finds its inventory, whenever this is cut off.
        return self.file.create(lambda keyset: self.inventory.create(keyset.inventory))


def _root(home: Path, settings: KeysSettings) -> RootKey:
    match settings.root:
        case "file":
            return FileRoot(settings.file(home))
        case "environment":
            return VariableRoot(settings.root_key)
        case "aws-kms":
            return KmsRoot(settings.kms_key)
        case "vault":
            assert settings.vault_token_file is not None  # the settings have been checked
            token = read_private(settings.vault_token_file, what="token for Vault", missing=RootKeyUnavailable)
            return VaultRoot(
                address=settings.vault_address,
                key=settings.vault_key,
                token=SecretStr(token.decode("utf-8", "replace").strip()),
                mount=settings.vault_mount,
                ca_file=settings.vault_ca_file,
            )
