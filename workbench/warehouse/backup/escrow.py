"""A copy of the root key under a passphrase: what a restore on another machine begins with.

The key that the passphrase gives is derived with scrypt (RFC 7914), and wraps the root key as a message of
`workbench.security.messages`. The file is of no use without the passphrase, so it may lie beside the backups.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import SecretStr

from workbench.errors import BackupError, WrongKey
from workbench.security.messages import KEY_BYTES, decrypt_message, encrypt_message
from workbench.security.secrets import sync_folder, write_private

FORMAT = 1
CONTEXT = b"workbench/root-key-escrow\0"
SALT_BYTES = 16
PASSPHRASE_CHARACTERS = 16
# 128 MiB and some tenths of a second for each guess.
COST, BLOCK, LANES = 2**17, 8, 1
DOCUMENT_BYTES = 10_000


def write_escrow(path: Path, root: bytes, passphrase: SecretStr) -> None:
    """Write *root* under *passphrase* to *path*, at mode 0600.

    Raises:
        BackupError: when the passphrase is short, or something is at *path*.
    """
    if len(passphrase.get_secret_value()) < PASSPHRASE_CHARACTERS:
        raise BackupError(
            f"the passphrase has less than {PASSPHRASE_CHARACTERS} characters", remedy="Take six random words."
        )
    if path.exists():
        raise BackupError(f"{path} is there already", remedy="Name another file, or move that one away.")
    salt = os.urandom(SALT_BYTES)
    sealed = encrypt_message(_derived(passphrase, salt), root, CONTEXT + salt)
    fields = {"format": FORMAT, "salt": salt.hex(), "sealed": base64.b64encode(sealed).decode()}
    write_private(path, json.dumps(fields) + "\n")
    sync_folder(path.parent)
    # Read back: a copy that cannot be opened is found out now.
    if read_escrow(path, passphrase) != root:
        raise BackupError(f"{path} does not give back the root key", remedy="Write it to another disk.")


def read_escrow(path: Path, passphrase: SecretStr) -> bytes:
    """The root key that `write_escrow` was given.

    Raises:
        BackupError: when it cannot be read, is none, or the passphrase is another one.
    """
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(DOCUMENT_BYTES))
        salt, sealed = bytes.fromhex(fields["salt"]), base64.b64decode(fields["sealed"], validate=True)
        known = fields["format"] == FORMAT
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}", remedy="Name the file of the escrow.") from None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise BackupError(f"{path} holds no root key", remedy="Name a file of `workbench backup escrow`.")
    try:
        root = decrypt_message(_derived(passphrase, salt), sealed, CONTEXT + salt, subject=str(path))
    except WrongKey:
        raise BackupError(f"the passphrase does not open {path}", remedy="Give the one it was written with.") from None
    if len(root) != KEY_BYTES:
        raise BackupError(f"{path} holds no root key", remedy="Name a file of `workbench backup escrow`.")
    return root


def _derived(passphrase: SecretStr, salt: bytes) -> bytes:
    kdf = Scrypt(salt=salt, length=KEY_BYTES, n=COST, r=BLOCK, p=LANES)
    return kdf.derive(passphrase.get_secret_value().encode("utf-8"))
