"""The folder of one warehouse's backups: a backup is in it whole, or not at all.

    FOLDER/ID/keyset.json               as it is in keys/: of no use without the root key
    FOLDER/ID/backups/NAME/*.tar.gz.enc parts of a backup
    FOLDER/ID/backups/NAME/catalog.enc  what it is, with the SHA-256 of its parts; written last
    FOLDER/ID/wal/*.z.enc               what the warehouse has written since

A restored home gets an ID of its own, so that two warehouses never write the same names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from workbench.errors import BackupError, EncryptionError, KeysetError
from workbench.security.encryption.files import read_encrypted, write_encrypted
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import locked, private_folder, sync_folder, write_first, write_private
from workbench.warehouse.backup.wal import Segment, WalArchive

CATALOG = "catalog.enc"
FORMATS = (1, 2)  #: 2 has incremental ones
NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
ID_BYTES = 6


@dataclass(frozen=True, kw_only=True)
class Part:
    """One encrypted file of a backup."""

    name: str
    size_bytes: int  #: of its content, compressed and not encrypted
    sha256: str  #: of its content: a rewrap changes the file, not this


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A whole backup, as its catalog tells."""

    name: str
    begun: datetime
    finished: datetime  #: the earliest moment to which it can be restored
    start: Segment  #: from here on it needs WAL; up to `stop` it holds that itself
    stop: Segment
    server: str  #: PostgreSQL's version
    database: str
    user: str  #: owner of the database
    home: str  #: WORKBENCH_HOME at that time
    needs: str | None = None  #: name of the backup without which this one is of no use; None for a full one
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """Of all parts."""
        return sum(part.size_bytes for part in self.parts)

    def as_json(self) -> bytes:
        """The catalog."""
        fields = asdict(self) | {"begun": self.begun.isoformat(), "finished": self.finished.isoformat()}
        fields |= {"start": self.start.name, "stop": self.stop.name, "format": FORMATS[-1]}
        return json.dumps(fields, indent=1).encode()

    @classmethod
    def parse(cls, content: bytes, subject: str) -> Backup:
        """The backup of a catalog that has proved to be authentic.

        Raises:
            BackupError: when a newer version has written it.
        """
        fields = json.loads(content)
        if (found := fields.pop("format")) not in FORMATS:
            raise BackupError(
                f"{subject} has format {found}; this version reads {FORMATS[-1]}", remedy="Use a later version."
            )
        start, stop = Segment.parse(fields.pop("start")), Segment.parse(fields.pop("stop"))
        assert start is not None
        assert stop is not None
        fields |= {name: datetime.fromisoformat(fields[name]) for name in ("begun", "finished")}
        parts = tuple(Part(**each) for each in fields.pop("parts"))
        return cls(**fields, start=start, stop=stop, parts=parts)


@dataclass(frozen=True)
class Repository:
    """All backups of one warehouse."""

    folder: Path

    @classmethod
    def of(cls, home: Path, folder: Path) -> Repository:
        """That of the home, below the folder of backups; makes its id the first time."""
        path = private_folder(home / "backup") / "id"
        if not path.exists():
            write_first(path, f"{os.urandom(ID_BYTES).hex()}\n")
            sync_folder(path.parent)
        return cls(folder / path.read_text(encoding="utf-8").strip())

    @staticmethod
    def all_below(folder: Path) -> list[Repository]:
        """Every repository below a folder of backups."""
        return [Repository(path.parent) for path in sorted(folder.glob("*/keyset.json"))]

    @property
    def wal(self) -> WalArchive:
        """What was written between backups."""
        return WalArchive(self.folder / "wal")

    @property
    def keyset(self) -> Path:
        """The copy of the keyset."""
        return self.folder / "keyset.json"

    @property
    def keyset_id(self) -> str:
        """The id of that keyset, in hexadecimal digits; empty when its copy is damaged."""
        try:
            return str(json.loads(self.keyset.read_bytes())["keyset"])
        except (ValueError, KeyError, TypeError):
            return ""

    def path(self, name: str) -> Path:
        """The folder of a backup."""
        return self.folder / "backups" / name

    def context(self, name: str, part: str) -> str:
        """What a part of a backup is bound to."""
        return f"backup/{self.folder.name}/{name}/{part}"

    def refresh_keyset(self, keys: Keys) -> None:
        """Have the copy of the keyset be the present one, so that everything here can be read with it.

        Raises:
            KeysetError, EncryptionError: when the present one cannot be used; the copy stays.
        """
        # Nobody changes the keyset meanwhile: the copy of who had read it before would replace that of who did after.
        with keys.file.writing_key():
            content = keys.file.path.read_bytes()
            if not self.keyset.exists() or self.keyset.read_bytes() != content:
                private_folder(self.folder)
                write_private(self.keyset, content)
                sync_folder(self.folder)

    @contextmanager
    def writing(self, keys: Keys) -> Iterator[None]:
        """Be the only one who makes or removes backups; what nobody has finished is removed first.

        Raises:
            BackupError: when somebody else is.
        """
        folder = private_folder(private_folder(self.folder) / "backups")
        with locked(folder / ".lock", waits=False) as is_alone:
            if not is_alone:
                raise BackupError(f"another backup is being written into {folder}", remedy="Wait until it is done.")
            for path in folder.glob("[0-9]*"):
                if NAME.fullmatch(path.name) and not (path / CATALOG).exists():
                    self._clear(keys, path)
            yield

    def finish(self, keys: Keys, backup: Backup) -> None:
        """Put a backup into the catalog: with this last file, which appears whole, it is one."""
        path = self.path(backup.name)
        # It was begun hours ago, and its parts may need a version that was promoted meanwhile.
        self.refresh_keyset(keys)
        sync_folder(path.parent)
        write_encrypted(keys, backup.as_json(), path / CATALOG, self.context(backup.name, CATALOG))

    def remove(self, keys: Keys, backup: Backup) -> None:
        """Remove a backup; it is out of the catalog before its parts are."""
        path = self.path(backup.name)
        (path / CATALOG).unlink()
        sync_folder(path)
        self._clear(keys, path)

    def _clear(self, keys: Keys, path: Path) -> None:
        shutil.rmtree(path)
        keys.inventory.forget_below(path)

    def names(self) -> list[str]:
        """Names of backups, the oldest first; whether they can be read is not looked at."""
        paths = (self.folder / "backups").glob(f"[0-9]*/{CATALOG}")
        return sorted(path.parent.name for path in paths if NAME.fullmatch(path.parent.name))

    def read(self, keys: Keys, name: str) -> Backup:
        """The catalog of one backup.

        Raises:
            EncryptionError, KeysetError: when it is damaged, or the keyset cannot be used.
            BackupError: when it is not there or of a newer version.
        """
        path = self.path(name) / CATALOG
        if not path.is_file():
            raise BackupError(f"there is no backup {path.parent}", remedy="`workbench backup list` names them.")
        return Backup.parse(read_encrypted(keys, path, self.context(name, CATALOG)), str(path))

    def lineage(self, keys: Keys, backup: Backup) -> tuple[Backup, ...]:
        """The full backup that this one is built on, all between, and itself at the end: what a restore needs.

        Raises:
            BackupError: when one of them is not there, is damaged, or cannot be read with these keys.
        """
        found = [backup]
        while (needed := found[0].needs) is not None:
            try:
                found.insert(0, self.read(keys, needed))
            except (BackupError, EncryptionError, KeysetError, OSError) as error:
                raise BackupError(
                    f"the backup {found[0].name} is of no use without {needed}: {error}",
                    remedy="Restore another one. `workbench backup create` makes a full one.",
                ) from None
        return tuple(found)

    def backups(self, keys: Keys) -> list[Backup]:
        """Every backup whose catalog can be read, the oldest first; `verify` names the others."""
        found = []
        for name in self.names():
            try:
                found.append(self.read(keys, name))
            except (BackupError, EncryptionError):
                continue
        return sorted(found, key=lambda backup: backup.finished)


def made_at(name: str) -> datetime:
    """When the backup of that name was begun."""
    return datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
