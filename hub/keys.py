"""The keys that encrypt what the hub keeps of each login: the first encrypts, the others still decrypt."""

from __future__ import annotations

import base64
import hashlib
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from workbench.errors import WorkbenchError
from workbench.security.secrets import ensure_token, write_private

KEY_BYTES = 32
KEPT = 3
BUSY_SECONDS = 5.0
AUTH_STATES = "SELECT encrypted_auth_state FROM users WHERE encrypted_auth_state IS NOT NULL"


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


def rotate_keys(path: Path, databases: Iterable[Path] = ()) -> int:
    """Put a new key first and keep the two before it; returns how many there are now. A running hub goes on with its own.

    Args:
        path: the file of the keys.
        databases: JupyterHub's, whose logins have to stay readable.

    Raises:
        WorkbenchError: when a key would be dropped that is needed; the file is left as it was.
    """
    old = read_keys(path)
    kept, dropped = old[: KEPT - 1], old[KEPT - 1 :]
    if dropped:
        _check_unneeded(path, kept, dropped, databases)
    keys = [secrets.token_bytes(KEY_BYTES), *kept]
    write_private(path, "".join(f"{key.hex()}\n" for key in keys))
    return len(keys)


def note_in_use(path: Path, keys: Sequence[bytes]) -> None:
    """Note which of the keys at *path* a hub encrypts with that starts now. Called at each start."""
    file, content = _in_use(path), _fingerprint(keys[0])
    if not file.is_file() or file.read_text(encoding="ascii").strip() != content:
        write_private(file, f"{content}\n")


def _check_unneeded(path: Path, kept: Sequence[bytes], dropped: Sequence[bytes], databases: Iterable[Path]) -> None:
    by_hand = f"To drop it all the same, remove the last line of {path}: whoever needs it then signs in again."
    file = _in_use(path)
    if file.is_file() and file.read_text(encoding="ascii").strip() in {_fingerprint(key) for key in dropped}:
        raise WorkbenchError(
            "the key that would be dropped is the one that the hub was last started with",
            remedy=f"Start the hub again first, so that it takes a newer one. {by_hand}",
        )
    if count := sum(_only(dropped, kept, state) for database in databases for state in _auth_states(database)):
        raise WorkbenchError(
            f"the key that would be dropped is needed for {count} login{'s' if count > 1 else ''} in the hub's database",
            remedy=f"Start the hub, and rotate again when everybody has been asked about, some minutes later. {by_hand}",
        )


def _auth_states(database: Path) -> list[bytes]:
    # Not `ro`, which leaves the files of the write-ahead log behind; `rw` makes no database where there is none.
    try:
        address = f"{database.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'users'").fetchone():
                return []
            return [bytes(state) for (state,) in connection.execute(AUTH_STATES)]
    except sqlite3.Error as error:
        raise WorkbenchError(
            f"{database} could not be read, so it is not known whether the oldest key is needed: {error}",
            remedy="Run the command as the user who runs the hub.",
        ) from error


def _only(dropped: Sequence[bytes], kept: Sequence[bytes], state: bytes) -> bool:
    return _decrypts(dropped, state) and not _decrypts(kept, state)


def _decrypts(keys: Sequence[bytes], state: bytes) -> bool:
    try:
        MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys]).decrypt(state)
    except InvalidToken:
        return False
    return True


def _in_use(path: Path) -> Path:
    return path.with_name(f"{path.name}-in-use")


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
