"""Writes a backup: PostgreSQL's own base backup, and an archive of what else is in WORKBENCH_HOME.

Both are streams of tar that are compressed, then encrypted, as they come; nothing in clear touches a disk.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from workbench.errors import BackupError
from workbench.security.encryption.files import encrypt_stream
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder
from workbench.warehouse.backup.home import archive
from workbench.warehouse.backup.receiving import ensure_slot
from workbench.warehouse.backup.repository import Backup, Part, Repository
from workbench.warehouse.backup.server import Server
from workbench.warehouse.backup.wal import SEGMENT_BYTES, Segment

WAREHOUSE, HOME = "warehouse.tar.gz.enc", "home.tar.gz.enc"
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
            _write(keys, repository, name, HOME, archive(source.home, source.include, source.root)),
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
