"""The keys that encrypt what the hub keeps of each login: the first encrypts, the others still decrypt."""

from __future__ import annotations

import secrets
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.security.secrets import ensure_token, write_private

KEY_BYTES = 32
KEPT = 3


def read_keys(path: Path) -> list[bytes]:
    """The keys of the file at *path*, one in hexadecimal a line; one is made when there is no file.

    Raises:
        WorkbenchError: when a line is no key.
    """
    lines = ensure_token(path).split()
    try:
        keys = [bytes.fromhex(line) for line in lines]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise WorkbenchError(
            f"{path} holds a line that is no key",
            remedy=f"Each line is {2 * KEY_BYTES} hexadecimal digits. Remove the wrong one; or the file, and all sign in again.",
        )
    return keys


def rotate_keys(path: Path) -> int:
    """Put a new key first and keep the two before it; returns how many there are now. A running hub goes on with its own."""
    keys = [secrets.token_bytes(KEY_BYTES), *read_keys(path)][:KEPT]
    write_private(path, "".join(f"{key.hex()}\n" for key in keys))
    return len(keys)
