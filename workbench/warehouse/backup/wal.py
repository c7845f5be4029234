"""Segments of PostgreSQL's write-ahead log: their names, and an archive of them, each written once.

Source: postgresql.org/docs/18, "Continuous Archiving and Point-in-Time Recovery".
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import BackupError
from workbench.security.encryption.files import read_encrypted, write_encrypted
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder

SEGMENT_BYTES = 16 * 1024 * 1024  #: initdb's default
SEGMENTS_PER_FILE_ID = 2**32 // SEGMENT_BYTES
SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
HISTORY = re.compile(r"[0-9A-F]{8}\.history")
SUFFIX = ".z.enc"


@dataclass(frozen=True, order=True)
class Segment:
    """One piece of the log."""

    timeline: int
    number: int  #: counted from the beginning of the log

    @classmethod
    def parse(cls, name: str) -> Segment | None:
        """The segment of that file name; None for what is no whole segment."""
        found = SEGMENT.fullmatch(name)
        if not found:
            return None
        timeline, high, low = (int(part, 16) for part in found.groups())
        return cls(timeline, high * SEGMENTS_PER_FILE_ID + low) if low < SEGMENTS_PER_FILE_ID else None

    @classmethod
    def at(cls, timeline: int, position: str) -> Segment:
        """The segment that holds the LSN *position*, such as `1/2A000028`."""
        high, low = (int(part, 16) for part in position.split("/"))
        return cls(timeline, (high * 2**32 + low) // SEGMENT_BYTES)

    @property
    def name(self) -> str:
        """Its file name."""
        high, low = divmod(self.number, SEGMENTS_PER_FILE_ID)
        return f"{self.timeline:08X}{high:08X}{low:08X}"


@dataclass(frozen=True)
class WalArchive:
    """The folder of archived segments, compressed and encrypted."""

    folder: Path

    def add(self, keys: Keys, source: Path) -> None:
        """Archive a whole segment or a history file; it is on the disk when this returns. Again is nothing.

        Raises:
            BackupError: when another content is archived under that name.
            EncryptionError, KeysetError: when the keyset cannot be used.
            OSError: when the archive cannot be written.
        """
        content = source.read_bytes()
        target = self._path(source.name)
        if target.exists():
            if self.read(keys, source.name) != content:
                raise BackupError(
                    f"{target} is archived with another content than {source}",
                    remedy="Two warehouses write into one folder of backups: give each its own.",
                )
            return
        private_folder(self.folder)
        # Level 1: what is closed early is mostly zeros.
        write_encrypted(keys, zlib.compress(content, 1), target, self._context(source.name))

    def read(self, keys: Keys, name: str) -> bytes:
        """The content of a segment or history file.

        Raises:
            EncryptionError, KeysetError: when it is damaged, or the keyset cannot be used.
        """
        return zlib.decompress(read_encrypted(keys, self._path(name), self._context(name)))

    def segments(self) -> list[Segment]:
        """What is archived, in order."""
        return sorted(found for name in self._names() if (found := Segment.parse(name)))

    def histories(self) -> list[str]:
        """Names of archived history files."""
        return sorted(name for name in self._names() if HISTORY.fullmatch(name))

    def time_of(self, segment: Segment) -> float:
        """When it was archived, in seconds of Unix time: a moment after its last transaction."""
        return self._path(segment.name).stat().st_mtime

    def remove(self, keys: Keys, segment: Segment) -> None:
        """Remove a segment, which need not be there."""
        self._path(segment.name).unlink(missing_ok=True)
        keys.inventory.forget_path(self._path(segment.name))

    def _names(self) -> Iterable[str]:
        return (path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"[0-9A-F]*{SUFFIX}"))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def _context(self, name: str) -> str:
        return f"backup/{self.folder.parent.name}/wal/{name}"


def chain(segments: Iterable[Segment], stop: Segment) -> list[Segment]:
    """The archived segments that follow on *stop* without a gap; the backup itself holds those up to it."""
    found = {each.number for each in segments if each.timeline == stop.timeline}
    number = stop.number + 1
    while number in found:
        number += 1
    return [Segment(stop.timeline, each) for each in range(stop.number + 1, number)]


def first_gap(segments: Iterable[Segment], stop: Segment) -> Segment | None:
    """The segment at which `chain` ends although later ones are archived; None when it ends with the last."""
    archived = list(segments)
    reached = chain(archived, stop)
    end = reached[-1].number if reached else stop.number
    is_cut = any(each.number > end and each.timeline == stop.timeline for each in archived)
    return Segment(stop.timeline, end + 1) if is_cut else None
