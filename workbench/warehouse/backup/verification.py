"""Reads every byte of backups and WAL, and names what is damaged or missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from workbench.errors import BackupError, EncryptionError, KeysetError
from workbench.security.encryption.files import decrypted_stream
from workbench.security.keyset.file import KeysetFile
from workbench.security.keyset.opening import Keys
from workbench.warehouse.backup.parts import hashed_pieces
from workbench.warehouse.backup.repository import Backup, Repository
from workbench.warehouse.backup.subject_keys import check_subject_keys
from workbench.warehouse.backup.wal import Segment, chain, first_gap


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was read, and what was wrong."""

    backups: int
    segments: int
    problems: tuple[str, ...]


def verify(keys: Keys, repository: Repository, only: str | None = None) -> Verified:
    """Read all backups, or one with those that it is built on, and the WAL that leads on from the oldest of them.

    Raises:
        KeysetError: when the keyset cannot be used.
        BackupError: when there is no backup of that name.
    """
    names = [only] if only else repository.names()
    found: list[Backup] = []
    problems = [f"{repository.keyset}: {each}" for each in _told(KeysetFile(repository.keyset, keys.file.root).read)]
    problems += _told(lambda: check_subject_keys(repository, keys))
    for name in names:
        problems += _told(lambda name=name: found.append(repository.read(keys, name)))  # type: ignore[misc]
    needed: list[Backup] = []
    for backup in found:
        problems += _told(lambda backup=backup: needed.extend(repository.lineage(keys, backup)))  # type: ignore[misc]
    found = list({backup.name: backup for backup in (*needed, *found)}.values())
    for backup in found:
        problems += damaged(keys, repository, backup)
    segments = _needed(repository, found)
    for segment in segments:
        problems += _told(lambda segment=segment: repository.wal.read(keys, segment.name))  # type: ignore[misc]
    return Verified(backups=len(found), segments=len(segments), problems=(*problems, *_gaps(repository, found)))


def restorable_until(repository: Repository, backup: Backup) -> datetime:
    """The last moment to which WAL leads from this backup, as far as names and times of files tell."""
    last = chain(repository.wal.segments(), backup.stop)
    return datetime.fromtimestamp(repository.wal.time_of(last[-1]), UTC) if last else backup.finished


def damaged(keys: Keys, repository: Repository, backup: Backup) -> Iterator[str]:
    """Read every byte of one backup, and tell what is wrong with each of its parts."""
    for part in backup.parts:
        path = repository.path(backup.name) / part.name
        context = repository.context(backup.name, part.name)

        def read(path=path, context=context, part=part) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
            for _ in hashed_pieces(decrypted_stream(keys, path, context), part, str(path)):
                pass

        yield from _told(read)


def _needed(repository: Repository, backups: list[Backup]) -> list[Segment]:
    if not backups:
        return []
    first = min(backup.stop.number for backup in backups)
    return [each for each in repository.wal.segments() if each.number > first]


def _gaps(repository: Repository, backups: list[Backup]) -> Iterator[str]:
    archived = repository.wal.segments()
    for backup in backups:
        if missing := first_gap(archived, backup.stop):
            yield (
                f"{missing.name} of WAL is missing: from the backup {backup.name} nothing after it can be restored; "
                "later moments need a later backup, which `workbench backup create` makes"
            )


def _told(read: Callable[[], object]) -> Iterator[str]:
    try:
        read()
    except (BackupError, EncryptionError, KeysetError) as error:
        yield error.message
    except OSError as error:
        yield f"{error.filename} cannot be read: {error.strerror}"
