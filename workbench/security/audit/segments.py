"""The files of the log: the one that is written, those that were closed before it, and the state at their end.

The lock is that of the file that is written, and so no `secrets.locked`, whose files are for a lock
alone. Whoever gets it looks whether the file still has its name: another process may have closed it
meanwhile. And it is given up before the file is synced, so that others write in that time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workbench.security.audit.lines import Seal, digest
from workbench.security.secrets import private_folder, sync_folder

BLOCK_BYTES = 1 << 17
READ_BYTES = 1 << 20  #: that are read at once of a whole file
CLOSED = "events-*.jsonl"


@dataclass(frozen=True, slots=True)
class Tail:
    """What the next line continues, and what of the file nobody has sealed."""

    sequence: int = 0  #: of the last sealed line; 0 is none
    hash: str = ""
    time: int = 0
    unsealed: bytes = b""  #: what stands after it
    file: tuple[int, int, int] = (0, 0, 0)  #: device, inode and size


def segments(path: Path) -> list[Path]:
    """The files of the log at *path*, the oldest first; the name of a closed one has the number of its last line."""
    closed = sorted(path.parent.glob(CLOSED))
    return [*closed, *([path] if path.is_file() else [])]


@contextmanager
def opened(path: Path) -> Iterator[tuple[list[Path], BinaryIO | None]]:
    """The closed files of the log at one moment, the oldest first, and the one that was written then, opened.

    That one may be closed at any time: it has another name then, and its old one is that of later events.
    """
    while True:
        with ExitStack() as stack:
            active = None
            if path.is_file():
                with suppress(FileNotFoundError):
                    active = stack.enter_context(path.open("rb", buffering=READ_BYTES))
            closed = sorted(path.parent.glob(CLOSED))
            if _is_still(path, active):
                yield closed, active
                return


def _is_still(path: Path, active: BinaryIO | None) -> bool:
    if active is None:
        return not path.is_file()
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(active.fileno()))
    return False


def closed_name(path: Path, sequence: int) -> Path:
    """What the file at *path* is called once it is closed after that line."""
    return path.with_name(f"events-{sequence:015d}.jsonl")


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """The open file of the log, made if it is not there, for as long as no other process writes.

    Raises:
        OSError: when it cannot be opened or made; also when it is a link.
    """
    while True:
        descriptor = _open(path)
        try:
            # Given up when the file is closed.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def read_tail(descriptor: int, path: Path) -> Tail:
    """The end of the open file, or when no line of it is sealed that of the segment before."""
    status = os.fstat(descriptor)
    file = (status.st_dev, status.st_ino, status.st_size)
    found = _last_sealed(descriptor, status.st_size)
    if found is not None:
        line, seal, unsealed = found
        return Tail(seal.sequence, digest(line), seal.time, unsealed, file)
    content = _read(descriptor, 0, status.st_size)
    closed = [each for each in segments(path) if each != path]
    if not closed:
        return Tail(unsealed=content, file=file)
    with closed[-1].open("rb") as before:
        tail = read_tail_of_closed(before.fileno())
    return Tail(tail.sequence, tail.hash, tail.time, content, file)


def read_tail_of_closed(descriptor: int) -> Tail:
    """The end of a segment that was closed."""
    found = _last_sealed(descriptor, os.fstat(descriptor).st_size)
    if found is None:
        return Tail()
    line, seal, _ = found
    return Tail(seal.sequence, digest(line), seal.time)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        folder = private_folder(path.parent)
        descriptor = os.open(path, flags | os.O_CREAT, 0o600)
        sync_folder(folder)
        return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _last_sealed(descriptor: int, size: int) -> tuple[bytes, Seal, bytes] | None:
    """The last sealed line, its seal and what stands after it; looks at blocks from the end."""
    start, content = size, b""
    while start > 0:
        start = max(0, start - max(BLOCK_BYTES, len(content)))
        content = _read(descriptor, start, size)
        lines = _lines(content)
        for index in range(len(lines) - 1, -1 if start == 0 else 0, -1):
            if seal := Seal.of_line(lines[index]):
                return lines[index], seal, b"".join(lines[index + 1 :])
    return None


def _lines(content: bytes) -> list[bytes]:
    *whole, rest = content.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def _read(descriptor: int, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := os.pread(descriptor, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)
