"""How backups of a home are doing: files in its folder `backup`, which whoever watches reads without any key."""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from workbench.security.secrets import private_folder, write_private
from workbench.warehouse.backup.repository import Backup
from workbench.warehouse.backup.wal import Segment


@dataclass(frozen=True, kw_only=True)
class Status:
    """What has become of backups; times are in seconds of Unix time."""

    since: float  #: when backups of this home were begun
    verified: str = ""  #: the newest one of which every byte was read back
    verified_at: float | None = None  #: to that moment it holds everything
    size_bytes: int = 0  #: of it
    seconds: float = 0.0  #: that it took, and to read it back
    problem: str = ""  #: why the last one failed; empty when it did not

    @property
    def covered_until(self) -> float:
        """The moment of the newest verified backup; without one, when they were begun."""
        return self.since if self.verified_at is None else self.verified_at


def read_status(home: Path) -> Status | None:
    """That of a home; None when no backups were begun, or the file is damaged."""
    try:
        return Status(**json.loads(_status(home).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def begin(home: Path) -> Status:
    """Note that backups are made from now on, unless they were before."""
    found = read_status(home)
    if found is None:
        found = Status(since=time.time())
        _write(_status(home), asdict(found))
    return found


def note_verified(home: Path, backup: Backup, seconds: float) -> None:
    """Note that a backup was made, and read back without a problem."""
    found = Status(
        since=begin(home).since,
        verified=backup.name,
        verified_at=backup.finished.timestamp(),
        size_bytes=backup.size_bytes,
        seconds=round(seconds, 3),
    )
    _write(_status(home), asdict(found))


def note_failed(home: Path, problem: str) -> None:
    """Note why no backup was made, or why it is none to rely on."""
    _write(_status(home), asdict(replace(begin(home), problem=problem)))


class ArchiveLag:
    """Since when WAL that the server has closed waits to be archived.

    Not by the position in the log: an idle server writes a little now and then, which no archive has to have.

    Args:
        since: what an earlier process had found, in seconds of Unix time; None when nothing waited.
    """

    def __init__(self, since: float | None) -> None:
        self._begin = since
        self._closed: deque[tuple[int, float]] = deque()  #: number of a segment, and when it was seen to be closed
        self._newest = -1

    def look(self, current: Segment, archived: Segment | None, now: float) -> float | None:
        """When the oldest segment that waits was closed, as far as was seen; None when none waits.

        Args:
            current: the one that the server writes into.
            archived: the newest one in the archive.
            now: seconds of Unix time.
        """
        is_first = self._newest < 0
        if current.number - 1 > self._newest:
            self._newest = current.number - 1
            # What was closed before the first backup begins belongs into no archive.
            if not (is_first and archived is None and self._begin is None):
                self._closed.append((self._newest, now if self._begin is None else self._begin))
        self._begin = None
        while self._closed and archived is not None and self._closed[0][0] <= archived.number:
            self._closed.popleft()
        return self._closed[0][1] if self._closed else None


def read_waiting_since(home: Path) -> float | None:
    """What `note_waiting_since` was told."""
    try:
        found = json.loads(_wal(home).read_bytes())["waiting_since"]
        return None if found is None else float(found)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_waiting_since(home: Path, since: float | None) -> None:
    """Note since when WAL waits to be archived; None when none does."""
    if not _wal(home).exists() or read_waiting_since(home) != since:
        _write(_wal(home), {"waiting_since": since})


def _status(home: Path) -> Path:
    return home / "backup" / "status.json"


def _wal(home: Path) -> Path:
    return home / "backup" / "wal.json"


def _write(path: Path, fields: dict[str, object]) -> None:
    private_folder(path.parent)
    write_private(path, json.dumps(fields, indent=1) + "\n")
