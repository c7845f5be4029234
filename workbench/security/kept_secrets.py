"""Secrets that the workbench keeps itself: a file of names and values, each value encrypted with the keyset."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from workbench.errors import Corrupt, SecretUnavailable
from workbench.security.encryption.values import decrypt_value, encrypt_value, encrypting_anew, value_version
from workbench.security.keyset.opening import Keys
from workbench.security.keyset.roots import read_private
from workbench.security.messages import RESTORE
from workbench.security.secrets import TOKEN_BYTES, locked, private_folder, sync_folder, write_private

HOLDER = "workbench secrets"  #: as the inventory of keys names it


@dataclass(frozen=True)
class KeptSecrets:
    """The secrets of one workbench. Any number of processes may use them at once."""

    path: Path
    keys: Keys

    @classmethod
    def of(cls, home: Path, keys: Keys) -> Self:
        """Those of the workbench whose WORKBENCH_HOME is *home*, whether or not there are any."""
        return cls(home / "keys" / "secrets.json", keys)

    def read(self, name: str) -> SecretStr:
        """The secret of that name.

        Raises:
            SecretUnavailable: when there is none.
            KeysetError, EncryptionError: when it cannot be decrypted.
        """
        sealed = self._sealed().get(name)
        if sealed is None:
            raise SecretUnavailable(f"keyset:{name}", "is not kept", remedy=f"`workbench secrets set {name}` keeps it.")
        return SecretStr(self._opened(name, sealed).decode("utf-8"))

    def names(self) -> Mapping[str, int]:
        """The names, in order, with the version of the keyset that encrypts each.

        Raises:
            EncryptionError: when the file was damaged.
        """
        return {name: value_version(sealed, subject=name) for name, sealed in sorted(self._sealed().items())}

    def set(self, name: str, value: SecretStr) -> bool:
        """Keep *value*; returns whether there was no secret of that name.

        Raises:
            KeysetError, EncryptionError: when it cannot be encrypted.
            OSError: when it cannot be written; all is as it was.
        """
        self.keys.ensure()
        with self._changing() as found:
            is_new = name not in found
            found[name] = self._encrypted(name, value.get_secret_value().encode())
        return is_new

    def ensure(self, name: str) -> SecretStr:
        """The secret of that name; one of 256 random bits, in hexadecimal digits, is made when there is none.

        Raises:
            As `set`.
        """
        self.keys.ensure()
        with self._changing() as found:
            if name not in found:
                found[name] = self._encrypted(name, secrets.token_hex(TOKEN_BYTES).encode())
            return SecretStr(self._opened(name, found[name]).decode("utf-8"))

    def remove(self, name: str) -> None:
        """Keep it no longer.

        Raises:
            SecretUnavailable: when there is none of that name.
        """
        with self._changing() as found:
            if name not in found:
                raise SecretUnavailable(f"keyset:{name}", "is not kept", remedy="See `workbench secrets list`.")
            del found[name]

    def encrypt_anew(self) -> int:
        """Bring every secret under the primary; returns how many there are. `workbench keys rewrap` does it.

        Raises:
            KeysetError, EncryptionError: when one cannot be read; all is as it was.
        """
        if not self.path.exists():
            return 0
        with encrypting_anew(self.keys, HOLDER), self._changing() as found:
            for name, sealed in found.items():
                found[name] = self._encrypted(name, self._opened(name, sealed))
        return len(found)

    def _encrypted(self, name: str, value: bytes) -> bytes:
        return encrypt_value(self.keys, value, _context(name), holder=HOLDER)

    def _opened(self, name: str, sealed: bytes) -> bytes:
        return decrypt_value(self.keys, sealed, _context(name), subject=f"the secret keyset:{name}")

    def _sealed(self) -> dict[str, bytes]:
        if not self.path.exists():
            return {}
        content = read_private(self.path, what="file of secrets")
        try:
            return {str(name): base64.b64decode(text, validate=True) for name, text in json.loads(content).items()}
        except (ValueError, AttributeError, TypeError, binascii.Error):
            raise Corrupt(f"{self.path} is not what was written", remedy=RESTORE) from None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, bytes]]:
        """What is kept, to be changed; written as a whole at the end, while nobody else changes it."""
        private_folder(self.path.parent)
        with locked(self.path.with_suffix(".lock")):
            found = self._sealed()
            yield found
            write_private(self.path, json.dumps({n: base64.b64encode(s).decode() for n, s in found.items()}) + "\n")
            sync_folder(self.path.parent)


def _context(name: str) -> str:
    return f"secret/{name}"
