"""Root keys that are 32 bytes in a file or in a variable."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from workbench.errors import KeysetError, RootKeyUnavailable, WrongKey
from workbench.security.messages import KEY_BYTES, decrypt_message, encrypt_message
from workbench.security.secrets import private_folder, sync_folder, write_first

CONTEXT = b"workbench/root-key\0"


@dataclass(frozen=True)
class FileRoot:
    """A root key in a file of mode 0600, as 64 hexadecimal digits."""

    path: Path
    name: str = field(default="file", init=False)

    def create(self) -> bool:
        """Make the file with a random key, if it is not there; tells whether it was made.

        Raises:
            OSError: when it cannot be written.
        """
        if self.path.exists():
            return False
        private_folder(self.path.parent)
        write_first(self.path, f"{os.urandom(KEY_BYTES).hex()}\n")
        sync_folder(self.path.parent)
        return True

    def reveal(self) -> bytes:
        """The key itself, to put a copy of it in safety.

        Raises:
            KeysetError: as `read_private`.
        """
        return self._key()

    def put(self, key: bytes) -> None:
        """Make the file with a key that `reveal` gave; one that is there stays.

        Raises:
            OSError: when it cannot be written.
        """
        private_folder(self.path.parent)
        write_first(self.path, f"{key.hex()}\n")
        sync_folder(self.path.parent)

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """See `RootKey`."""
        return _wrap(self._key(), key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See `RootKey`."""
        return _unwrap(self._key(), wrapped, context, f"the root key in {self.path}")

    def _key(self) -> bytes:
        content = read_private(self.path, what="root key", missing=RootKeyUnavailable)
        return _parsed(content.decode("ascii", "replace"), str(self.path))


@dataclass(frozen=True)
class VariableRoot:
    """A root key in the variable WORKBENCH_KEYS_ROOT_KEY, as 64 hexadecimal digits."""

    value: SecretStr
    name: str = field(default="environment", init=False)

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """See `RootKey`."""
        return _wrap(self._key(), key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See `RootKey`."""
        return _unwrap(self._key(), wrapped, context, "the root key in WORKBENCH_KEYS_ROOT_KEY")

    def _key(self) -> bytes:
        return _parsed(self.value.get_secret_value(), "WORKBENCH_KEYS_ROOT_KEY")


def read_private(path: Path, *, what: str, missing: type[KeysetError] = KeysetError) -> bytes:
    """The content of a file that only its owner may read, and that belongs to this user or to root.

    Raises:
        KeysetError: when others may read or change it; of the class *missing* when it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise missing(
            f"the {what} {path} cannot be read: {error.strerror}",
            remedy="Restore it from a backup, or run the command as its owner. `workbench keys init` makes the first one.",
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        # Of the opened file: another one may stand at the path by now.
        found = os.fstat(file.fileno())
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise KeysetError(f"others may read the {what} {path}", remedy=f"chmod 600 {path}, then rotate.")
        if found.st_uid not in {os.geteuid(), 0}:
            raise KeysetError(
                f"the {what} {path} belongs to user {found.st_uid}", remedy="Run the command as its owner, or chown it."
            )
        return file.read()


def _parsed(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise RootKeyUnavailable(
            f"{where} holds no root key", remedy=f"It is {2 * KEY_BYTES} random hexadecimal digits."
        )
    return key


def _wrap(root: bytes, key: bytes, context: bytes) -> bytes:
    return encrypt_message(root, key, CONTEXT + context)


def _unwrap(root: bytes, wrapped: bytes, context: bytes, subject: str) -> bytes:
    try:
        return decrypt_message(root, wrapped, CONTEXT + context, subject=subject)
    except WrongKey:
        raise WrongKey(
            f"{subject} is not the one that the keyset was written with, or the keyset was changed",
            remedy="Restore the root key, or the keyset, that belong together.",
        ) from None
