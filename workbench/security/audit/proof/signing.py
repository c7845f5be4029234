"""The key that signs checkpoints: Ed25519 (RFC 8032), in `keys/audit-signing`, and how another takes its place."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from workbench.errors import AuditError
from workbench.security.secrets import private_folder, write_first, write_private

HAND_OVER = b"workbench-audit/1 hand-over\n"


@dataclass(frozen=True)
class SigningKey:
    """A private key; prints without it."""

    private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.public})"

    @classmethod
    def ensure(cls, path: Path) -> Self:
        """The key in the file at *path*; made when there is none.

        Raises:
            AuditError: when the file holds none, or others can read it.
        """
        if not path.is_file():
            private_folder(path.parent)
            write_first(path, cls(Ed25519PrivateKey.generate()).as_pem())
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The key in the file at *path*.

        Raises:
            AuditError: when there is none in it, or others can read it.
        """
        status = path.stat()
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise AuditError(
                f"{path} can be read by others (mode {stat.S_IMODE(status.st_mode):o})",
                remedy=f"chmod 600 {path}; then `workbench audit rotate-key`, because it may be known.",
            )
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except ValueError as error:
            raise _no_key(path) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _no_key(path)
        return cls(key)

    @property
    def public(self) -> str:
        """The public key, 32 bytes in hexadecimal."""
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def sign(self, content: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self.private.sign(content)

    def as_pem(self) -> bytes:
        """The private key, for its file."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_pem(self) -> str:
        """The public key, for those who verify elsewhere."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def replace(self, path: Path) -> None:
        """Have the file at *path* hold this key."""
        write_private(path, self.as_pem())


def read_public(path: Path) -> str:
    """The public key of a PEM file, in hexadecimal.

    Raises:
        AuditError: when there is none in it.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _no_key(path) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path)
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def is_signed(key: str, signature: bytes, content: bytes) -> bool:
    """Whether the key, in hexadecimal, has signed the content."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def hand_over(old: SigningKey, new: SigningKey) -> dict[str, str]:
    """What the log is told when a key takes the place of another; each of the two signs it."""
    content = _hand_over_content(old.public, new.public)
    return {
        "old": old.public,
        "new": new.public,
        "by_old": old.sign(content).hex(),
        "by_new": new.sign(content).hex(),
    }


def linked_keys(trusted: Iterable[str], handed_over: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """The trusted keys, and those that hand-overs tie to them in either direction."""
    pairs = [(each["old"], each["new"]) for each in handed_over if _is_hand_over(each)]
    found = set(trusted)
    while more := {key for pair in pairs if found & set(pair) for key in pair} - found:
        found |= more
    return frozenset(found)


def _is_hand_over(details: Mapping[str, str]) -> bool:
    try:
        old, new = details["old"], details["new"]
        signatures = (old, bytes.fromhex(details["by_old"])), (new, bytes.fromhex(details["by_new"]))
    except (KeyError, ValueError):
        return False
    return all(is_signed(key, signature, _hand_over_content(old, new)) for key, signature in signatures)


def _hand_over_content(old: str, new: str) -> bytes:
    return HAND_OVER + f"{old}\n{new}\n".encode()


def _no_key(path: Path) -> AuditError:
    return AuditError(
        f"{path} holds no Ed25519 key", remedy="Give a PEM file; `workbench audit public-key` prints one."
    )
