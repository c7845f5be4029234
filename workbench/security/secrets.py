"""Secrets that live in files only their owner can read, and locks on such files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

TOKEN_BYTES = 32
# Letters and digits that nobody confuses on a screen (no 0, O, 1, I, L, U).
CODE_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


def private_folder(path: Path) -> Path:
    """Make *path* a folder of mode 0700 if it is not there yet, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, content: str | bytes) -> None:
    """Replace *path* with *content* at mode 0600: readers see the old file or the new one, never a part."""
    with replacing_private(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing_private(path: Path) -> Iterator[BinaryIO]:
    """A new file of mode 0600 that takes the place of *path* at the end of the context, unless an error ends it.

    Who has the old one open keeps that, and reads nothing of the new one.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Put the names in *folder* on the disk: a file that was just made or replaced is there after a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, waits: bool = True) -> Iterator[bool]:
    """Hold the lock of the file at *path*, made at mode 0600, while the context is open; False when others hold it.

    The lock is flock's: it excludes threads, too, and ends with the process, by kill -9 as well. Whoever removes the
    file does so while holding it: who has waited for it meanwhile holds a file without a name, and takes the new one.

    Args:
        path: of a file for the lock alone.
        shared: with others for whom it is shared, too.
        waits: until nobody is in the way; without, look at what it gives.

    Raises:
        OSError: when the file cannot be opened or made; also when it is a link.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            is_ours = _is_locked(descriptor, operation)
            if not is_ours or _is_at(path, descriptor):
                yield is_ours
                return
        finally:
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_locked(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    return True


def sync_tree(folder: Path) -> None:
    """Put all files below *folder*, and their names, on the disk. Links are not followed.

    Raises:
        OSError: when the disk does not take them.
    """
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if stat.S_ISREG(path.lstat().st_mode):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(Path(root))


def ensure_token(path: Path) -> str:
    """Return the secret kept at *path*; make one of 256 random bits when there is none."""
    return _ensure(path, secrets.token_hex(TOKEN_BYTES))


def ensure_code(path: Path) -> str:
    """Return the code kept at *path*; make one a person can type (XXXX-XXXX-XXXX, 58 bits) when there is none."""
    groups = ("".join(secrets.choice(CODE_ALPHABET) for _ in range(4)) for _ in range(3))
    return _ensure(path, "-".join(groups))


def _ensure(path: Path, fresh: str) -> str:
    if path.is_file() and not path.read_text(encoding="utf-8").strip():
        path.unlink()
    if not path.is_file():
        private_folder(path.parent)
        write_first(path, fresh + "\n")
    return path.read_text(encoding="utf-8").strip()


def write_first(path: Path, content: str | bytes) -> None:
    """Write *path* at mode 0600 unless somebody else has just done so; both then read the same secret."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_private(fresh, content)
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()
