"""Writes a backup: PostgreSQL's own base backup, and an archive of what else is in WORKBENCH_HOME.

Both are streams of tar that are compressed, then encrypted, as they come; nothing in clear touches a disk.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import secrets
import sqlite3
import stat
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from workbench.errors import BackupError
from workbench.security.encryption.files import encrypt_stream
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder
from workbench.warehouse.backup.receiving import ensure_slot
from workbench.warehouse.backup.repository import Backup, Part, Repository
from workbench.warehouse.backup.server import Server
from workbench.warehouse.backup.wal import SEGMENT_BYTES, Segment

WAREHOUSE, HOME = "warehouse.tar.gz.enc", "home.tar.gz.enc"
# Made again by the next start, of this machine alone, too large, or in the other part.
LEFT_OUT = frozenset({
    *("postgres", "kafka", "spark", "checkpoints", "warehouse", "run", "logs", "jars", "cache", "archive", "backup"),
    "credentials",
})  # fmt: skip
# The keyset has a place of its own in the repository, and its root key is never beside what it protects.
KEYSET_FILES = frozenset({"keyset.json", "root.key"})
SQLITE = b"SQLite format 3\0"
SQLITE_SIDES = ("-wal", "-shm", "-journal")
POSITION = re.compile(r"write-ahead log (start|end) point: ([0-9A-F]+/[0-9A-F]+)(?: on timeline (\d+))?")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is backed up."""

    home: Path
    server: Server
    database: str
    user: str  #: owner of the database
    include: tuple[Path, ...] = ()  #: files and folders outside of the home
    root: Path | None = field(default=None)  #: file of the root key, which is left out wherever it lies


def create(keys: Keys, repository: Repository, source: Source) -> Backup:
    """Make a full backup; it is in the catalog when this returns, and no part of one is there when this fails.

    Raises:
        BackupError: when the server does not answer or its base backup ends with an error, or another is being made.
        EncryptionError, KeysetError: when the keyset cannot be used.
        OSError: when it cannot be written.
    """
    with repository.writing(keys):
        repository.refresh_keyset(keys)
        with source.server.connect() as connection:
            # Before it begins: what is written after it leads on from it.
            ensure_slot(connection)
        begun = datetime.now(UTC)
        name = f"{begun:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        private_folder(repository.path(name))
        positions: dict[str, Segment] = {}
        parts = (
            _write(keys, repository, name, WAREHOUSE, _base(source.server, positions)),
            _write(keys, repository, name, HOME, _archive(source)),
        )
        version, finished = _ask(source.server)
        backup = Backup(
            name=name,
            begun=begun,
            finished=finished,
            start=positions["start"],
            stop=positions["end"],
            server=version,
            database=source.database,
            user=source.user,
            home=str(source.home),
            parts=parts,
        )
        repository.finish(keys, backup)
        return backup


def _write(keys: Keys, repository: Repository, name: str, part: str, opened: Any) -> Part:
    with opened as stream:
        hashed = _Hashed(stream)
        encrypt_stream(keys, hashed, repository.path(name) / part, repository.context(name, part))
    return Part(name=part, size_bytes=hashed.count, sha256=hashed.digest())


def _ask(server: Server) -> tuple[str, datetime]:
    """The server's version, and what time it is there after the backup: WAL holds that server's times."""
    with server.connect() as connection:
        row = connection.execute("SELECT current_setting('server_version'), clock_timestamp()").fetchone()
        size = connection.execute("SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'").fetchone()
    assert row is not None
    if size != (SEGMENT_BYTES,):
        raise BackupError(f"segments of WAL have {size} bytes, not {SEGMENT_BYTES}", remedy="Use initdb's default.")
    return str(row[0]), row[1].astimezone(UTC)  # type: ignore[attr-defined]


@contextmanager
def _base(server: Server, positions: dict[str, Segment]) -> Iterator[BinaryIO]:
    """The base backup as it is made, with the WAL that it needs; its first and last segment are put into *positions*."""
    process = server.start(
        "pg_basebackup",
        *("--pgdata=-", "--format=tar", "--compress=client-gzip:1", "--label=workbench"),
        *("--wal-method=fetch", "--checkpoint=fast", "--verbose"),
        piped=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[bytes] = []
    listener = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
    listener.start()
    try:
        yield process.stdout  # type: ignore[misc]
        code = process.wait()
        listener.join()
    finally:
        process.kill()
        process.wait()
        listener.join()
        process.stdout.close()
        process.stderr.close()
    text = b"".join(said).decode(errors="replace")
    found = {which: (position, timeline) for which, position, timeline in POSITION.findall(text)}
    if code or set(found) != {"start", "end"}:
        raise BackupError(
            f"pg_basebackup ended with {code}: {text.strip()[-1000:]}", remedy="See the warehouse's log for the reason."
        )
    timeline = int(found["start"][1])
    positions |= {which: Segment.at(timeline, position) for which, (position, _) in found.items()}


@contextmanager
def _archive(source: Source) -> Iterator[BinaryIO]:
    """A compressed tar of the home and of what is included, as it is made by a thread."""
    reading, writing = os.pipe()
    problems: list[BaseException] = []

    def fill() -> None:
        try:
            with (
                os.fdopen(writing, "wb") as pipe,
                gzip.GzipFile(fileobj=pipe, mode="wb", compresslevel=1) as packed,
                tarfile.open(fileobj=packed, mode="w|") as tar,
            ):
                _fill(tar, source)
        except BrokenPipeError:
            return  # the reader has a reason of its own
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            problems.append(error)

    filler = threading.Thread(target=fill, daemon=True)
    with os.fdopen(reading, "rb") as stream:
        filler.start()
        yield stream
    filler.join()
    if problems:
        raise BackupError(f"{source.home} could not be read: {problems[0]}", remedy="Correct that, and try again.")


def _fill(tar: tarfile.TarFile, source: Source) -> None:
    private_folder(source.home / "backup")
    # sqlite's own copies are whole whatever is being written; they need a place for a moment.
    with tempfile.TemporaryDirectory(dir=source.home / "backup") as scratch:
        for path in sorted(source.home.iterdir()):
            if path.name not in LEFT_OUT:
                _add(tar, source, path, f"home/{path.name}", Path(scratch) / "copy")
        for number, path in enumerate(source.include):
            _add(tar, source, path, f"included/{number}-{path.name}", Path(scratch) / "copy")


def _add(tar: tarfile.TarFile, source: Source, path: Path, name: str, scratch: Path) -> None:
    status = path.lstat()
    if _is_left_out(source, path):
        return
    if stat.S_ISDIR(status.st_mode):
        tar.addfile(tar.gettarinfo(path, name))
        for each in sorted(path.iterdir()):
            _unless_gone(lambda each=each: _add(tar, source, each, f"{name}/{each.name}", scratch))  # type: ignore[misc]
    elif stat.S_ISLNK(status.st_mode):
        target = path.readlink()
        if not target.is_absolute() and ".." not in target.parts:
            tar.addfile(tar.gettarinfo(path, name))
    elif stat.S_ISREG(status.st_mode):
        _add_file(tar, path, name, scratch)


def _unless_gone(add: Callable[[], None]) -> None:
    """Add what is there; a file that was removed meanwhile is no failure."""
    try:
        add()
    except FileNotFoundError:
        return


def _add_file(tar: tarfile.TarFile, path: Path, name: str, scratch: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(SQLITE)) != SQLITE:
            file.seek(0)
            info = tar.gettarinfo(arcname=name, fileobj=file)
            info.type = tarfile.REGTYPE  # a second name of a file is a file of its own
            tar.addfile(info, file)
            return
    scratch.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as origin,
        closing(sqlite3.connect(scratch)) as copy,
    ):
        origin.backup(copy)
    with scratch.open("rb") as file:
        info = tar.gettarinfo(arcname=name, fileobj=file)
        info.mode = path.stat().st_mode
        tar.addfile(info, file)


def _is_left_out(source: Source, path: Path) -> bool:
    if path.parent == source.home / "keys" and path.name in KEYSET_FILES:
        return True
    if source.root is not None and path == source.root:
        return True
    return path.name.endswith(SQLITE_SIDES) and path.with_name(_without_side(path.name)).exists()


def _without_side(name: str) -> str:
    return name[: name.rindex("-")]


class _Hashed(io.BufferedIOBase):
    """A stream that knows the hash and the length of what was read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.count = 0

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer*, and note what it was filled with."""
        length: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._hash.update(memoryview(buffer)[:length])
        self.count += length
        return length

    def digest(self) -> str:
        """SHA-256 of what was read, in hexadecimal digits."""
        return self._hash.hexdigest()


def hashed_pieces(pieces: Iterable[memoryview | bytes], part: Part, subject: str) -> Iterator[memoryview | bytes]:
    """The pieces, which have to be the content of *part* as the catalog has it.

    Raises:
        BackupError: at the end, when they are those of another part.
    """
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != part.sha256:
        raise BackupError(f"{subject} is not the file that the catalog names", remedy="Use another backup.")
