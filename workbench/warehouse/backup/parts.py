"""Writes a backup: PostgreSQL's base backup, full or incremental, and an archive of what else is in WORKBENCH_HOME.

Both are streams of tar that are compressed, then encrypted, as they come; nothing in clear touches a disk.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import secrets
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from workbench.errors import BackupError
from workbench.security.encryption.files import decrypted_stream, encrypt_stream
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder
from workbench.warehouse.backup.base.manifest import Manifest, finding
from workbench.warehouse.backup.base.taking import base_backup, check_incremental
from workbench.warehouse.backup.home import archive, clear_scratch, scratch_folder
from workbench.warehouse.backup.receiving import ensure_slot
from workbench.warehouse.backup.repository import Backup, Part, Repository
from workbench.warehouse.backup.server import Server
from workbench.warehouse.backup.subject_keys import refresh_subject_keys
from workbench.warehouse.backup.wal import SEGMENT_BYTES, Segment

WAREHOUSE, MANIFEST, HOME = "warehouse.tar.gz.enc", "manifest.gz.enc", "home.tar.gz.enc"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is backed up."""

    home: Path
    server: Server
    database: str
    user: str  #: owner of the database
    include: tuple[Path, ...] = ()  #: files and folders outside of the home
    root: Path | None = field(default=None)  #: file of the root key, which is left out wherever it lies


def create(keys: Keys, repository: Repository, source: Source, on: Backup | None = None) -> Backup:
    """Make a backup; it is in the catalog when this returns, and no part of one is there when this fails.

    Args:
        keys: what encrypts it.
        repository: where it is put.
        source: what is backed up.
        on: a full backup; of the warehouse only pages that have changed since then are taken. None takes all.

    Raises:
        BackupError: when the server does not answer, its base backup ends with an error or cannot be one of changes,
            *on* cannot be built on, or another backup is being made.
        EncryptionError, KeysetError: when the keyset cannot be used.
        OSError: when it cannot be written.
    """
    with repository.writing(keys):
        repository.refresh_keyset(keys)
        refresh_subject_keys(repository, keys)
        clear_scratch(source.home)
        with source.server.connect() as connection:
            # Before it begins: what is written after it leads on from it.
            ensure_slot(connection)
        begun = datetime.now(UTC)
        name = f"{begun:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        private_folder(repository.path(name))
        positions: dict[str, Segment] = {}
        if on is None:
            warehouse = _full(keys, repository, name, source.server, positions)
        else:
            warehouse = _incremental(keys, repository, name, source, positions, on)
        parts = (*warehouse, _write(keys, repository, name, HOME, archive(source.home, source.include, source.root)))
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
            needs=on.name if on else None,
            parts=parts,
        )
        repository.finish(keys, backup)
        return backup


def _full(
    keys: Keys, repository: Repository, name: str, server: Server, positions: dict[str, Segment]
) -> tuple[Part, ...]:
    manifest = Manifest()
    with finding(manifest) as found:
        part = _write(keys, repository, name, WAREHOUSE, base_backup(server, positions, None), found)
    if not manifest.content:
        raise BackupError("the base backup ended without its manifest", remedy="Make another one.")
    packed = nullcontext(io.BytesIO(manifest.packed()))
    return part, _write(keys, repository, name, MANIFEST, packed)


def _incremental(  # noqa: PLR0917 - as create
    keys: Keys, repository: Repository, name: str, source: Source, positions: dict[str, Segment], on: Backup
) -> tuple[Part, ...]:
    check_incremental(source.server)
    manifest = gzip.decompress(_read(keys, repository, on, MANIFEST))
    with scratch_folder(source.home) as scratch:
        path = scratch / "manifest"
        path.write_bytes(manifest)
        return (_write(keys, repository, name, WAREHOUSE, base_backup(source.server, positions, path)),)


def _read(keys: Keys, repository: Repository, backup: Backup, name: str) -> bytes:
    """The content of a part that is small."""
    part = next((each for each in backup.parts if each.name == name), None)
    if part is None:
        raise BackupError(
            f"the backup {backup.name} has no {name}: an earlier version has made it", remedy="Make a full one."
        )
    path = repository.path(backup.name) / name
    pieces = decrypted_stream(keys, path, repository.context(backup.name, name))
    return b"".join(hashed_pieces(pieces, part, str(path)))


def _write(  # noqa: PLR0917 - as create
    keys: Keys, repository: Repository, name: str, part: str, opened: Any, also: BinaryIO | None = None
) -> Part:
    with opened as stream:
        hashed = _Hashed(stream, also)
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


class _Hashed(io.BufferedIOBase):
    """A stream that knows the hash and the length of what was read from it, and writes it to *also*, if given."""

    def __init__(self, stream: BinaryIO, also: BinaryIO | None) -> None:
        self._stream = stream
        self._also = also
        self._hash = hashlib.sha256()
        self.count = 0

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer*, and note what it was filled with."""
        length: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._hash.update(memoryview(buffer)[:length])
        if self._also is not None:
            self._also.write(memoryview(buffer)[:length])
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
