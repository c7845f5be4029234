"""What is encrypted under which version: the proof that a version is needed no more.

One SQLite file beside the keyset, of mode 0600, for one machine. It holds paths and numbers, no keys.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.errors import KeysetError
from workbench.living import birth_of, lives
from workbench.security.secrets import sync_folder

BUSY_SECONDS = 30.0
REBUILD = (
    "Restore inventory.db from a backup, or make it anew of what is there: `workbench keys rewrap --rebuild FOLDER`."
)
Kind = Literal["file", "log", "values"]
TABLES = """
CREATE TABLE about (id TEXT NOT NULL);
CREATE TABLE objects (
  id       INTEGER PRIMARY KEY,
  kind     TEXT NOT NULL CHECK (kind IN ('file', 'log', 'values')),
  name     TEXT NOT NULL,
  version  INTEGER NOT NULL,
  writer   TEXT,
  noted    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ'))
);
CREATE INDEX objects_version ON objects (version);
CREATE INDEX objects_name ON objects (name);
CREATE UNIQUE INDEX objects_values ON objects (name, version) WHERE kind = 'values';
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that needs a version."""

    id: int
    kind: Kind
    name: str  #: of a file or log its absolute path; of values, who holds them
    version: int
    is_being_written: bool  #: by a process that still runs
    is_cut_off: bool  #: the process that wrote it ended before it said that it was done


@dataclass(frozen=True, kw_only=True)
class Noted:
    """An entry that was just made."""

    id: int
    replaced: tuple[int, ...]  #: entries of what is at the same path now


class Inventory:
    """The file of the inventory. Each call opens it, so threads and forks may share one object."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, home: Path) -> Inventory:
        """That of the workbench whose WORKBENCH_HOME is *home*."""
        return cls(home / "keys" / "inventory.db")

    def create(self, identifier: str, *, anew: bool = False) -> None:
        """Make the inventory that the keyset names by *identifier*.

        Args:
            identifier: of the keyset.
            anew: whether one that is there is replaced although it names something.

        Raises:
            KeysetError: when it cannot be written, or one is there that names something.
        """
        if self.path.exists() and not anew and (count := sum(self.counts().values())):
            raise KeysetError(
                f"there is no keyset any more, but {self.path} names {count:,} encrypted with it",
                remedy="Restore the keyset from a backup. If it is lost, so are they: remove the inventory, and start anew.",
            )
        fresh = self.path.with_name(f".{self.path.name}.new")
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with _opened(fresh) as connection:
            connection.executescript(TABLES)
            connection.execute("INSERT INTO about (id) VALUES (?)", (identifier,))
        fresh.replace(self.path)
        sync_folder(self.path.parent)

    def check(self, identifier: str) -> None:
        """Make sure that it is the one that the keyset names.

        Raises:
            KeysetError: when it is another one or none: what is encrypted under a version is not known then.
        """
        with _opened(self.path) as connection:
            found = connection.execute("SELECT id FROM about").fetchone()
        if found != (identifier,):
            raise KeysetError(f"{self.path} is the inventory of another keyset", remedy=REBUILD)

    def note(self, kind: Literal["file", "log"], path: Path, version: int) -> Noted:
        """Note that *path*, which this process is about to write, needs *version*. On the disk when this returns.

        Raises:
            KeysetError: when it cannot be written.
        """
        name = str(path.absolute())
        with _opened(self.path) as connection:
            there = connection.execute("SELECT id FROM objects WHERE name = ? AND writer IS NULL", (name,)).fetchall()
            row = connection.execute(
                "INSERT INTO objects (kind, name, version, writer) VALUES (?, ?, ?, ?) RETURNING id",
                (kind, name, version, _me()),
            ).fetchone()
        return Noted(id=row[0], replaced=tuple(each[0] for each in there))

    def finish(self, noted: Noted) -> None:
        """The file is at its place: what was noted of the one that it has replaced is forgotten."""
        with _opened(self.path) as connection:
            connection.execute("UPDATE objects SET writer = NULL WHERE id = ?", (noted.id,))
            connection.executemany("DELETE FROM objects WHERE id = ?", [(each,) for each in noted.replaced])

    def found(self, *objects: tuple[Literal["file", "log"], Path, int]) -> None:
        """Note what is there: each the kind, the path and a version that it needs."""
        with _opened(self.path) as connection:
            connection.executemany(
                "INSERT INTO objects (kind, name, version) VALUES (?, ?, ?)",
                [(kind, str(path.absolute()), version) for kind, path, version in objects],
            )

    def hold(self, holder: str, version: int) -> None:
        """Note that *holder* keeps values of *version*."""
        with _opened(self.path) as connection:
            connection.execute(
                "INSERT INTO objects (kind, name, version) VALUES ('values', ?, ?) ON CONFLICT DO NOTHING",
                (holder, version),
            )

    def lend(self, holder: str, version: int) -> int:
        """Note that others write values of *version* for this process; returns the number of the entry, to be forgotten.

        It is an entry of its own, whatever *holder* releases meanwhile.
        """
        writer = _me()
        with _opened(self.path) as connection:
            row = connection.execute(
                "INSERT INTO objects (kind, name, version, writer) VALUES ('values', ?, ?, ?) RETURNING id",
                (
                    f"{holder}, by executors of process {writer.partition(' ')[0]} ({secrets.token_hex(4)})",
                    version,
                    writer,
                ),
            ).fetchone()
        return int(row[0])

    def held(self, holder: str) -> set[int]:
        """The versions of which *holder* keeps values."""
        with _opened(self.path) as connection:
            rows = connection.execute("SELECT version FROM objects WHERE kind = 'values' AND name = ?", (holder,))
            return {version for (version,) in rows}

    def release(self, holder: str, versions: Iterable[int]) -> None:
        """The *holder* keeps no values of these versions any more."""
        with _opened(self.path) as connection:
            connection.executemany(
                "DELETE FROM objects WHERE kind = 'values' AND name = ? AND version = ?",
                [(holder, version) for version in versions],
            )

    def forget_path(self, path: Path) -> None:
        """The file at *path* is gone."""
        with _opened(self.path) as connection:
            connection.execute("DELETE FROM objects WHERE kind <> 'values' AND name = ?", (str(path.absolute()),))

    def forget_below(self, folder: Path) -> None:
        """All that was in *folder* is gone."""
        begin = f"{folder.absolute()}/"
        with _opened(self.path) as connection:
            connection.execute(
                "DELETE FROM objects WHERE kind <> 'values' AND substr(name, 1, ?) = ?", (len(begin), begin)
            )

    def move_below(self, before: Path, after: Path, is_there: Callable[[str], bool]) -> None:
        """All that was in *before* is in *after* now, but for what *is_there* denies: it is given the path within."""
        begin = f"{before.absolute()}/"
        with _opened(self.path) as connection:
            below = connection.execute(
                "SELECT id, substr(name, ?) FROM objects WHERE kind <> 'values' AND substr(name, 1, ?) = ?",
                (len(begin) + 1, len(begin), begin),
            ).fetchall()
            there = {number: name for number, name in below if is_there(name)}
            gone = [(number,) for number, _ in below if number not in there]
            connection.executemany("DELETE FROM objects WHERE id = ?", gone)
            connection.executemany(
                "UPDATE objects SET name = ? WHERE id = ?",
                [(f"{after}/{name}", number) for number, name in there.items()],
            )

    def add_version(self, entries: Sequence[Entry], version: int) -> list[int]:
        """Note that each of these needs *version* as well; returns the numbers of the new entries, in the same order."""
        with _opened(self.path) as connection:
            found = [
                connection.execute(
                    "INSERT INTO objects (kind, name, version) VALUES (?, ?, ?) RETURNING id",
                    (each.kind, each.name, version),
                ).fetchone()
                for each in entries
            ]
        return [row[0] for row in found]

    def forget(self, numbers: Iterable[int]) -> None:
        """The things of these entries are gone, were never made, or need the version no more."""
        with _opened(self.path) as connection:
            connection.executemany("DELETE FROM objects WHERE id = ?", [(each,) for each in numbers])

    def entries(self, *, version: int | None = None, other_than: int | None = None) -> list[Entry]:
        """All entries, those of a version, or those of all others; the oldest first."""
        with _opened(self.path) as connection:
            rows = connection.execute(
                "SELECT id, kind, name, version, writer FROM objects"
                " WHERE (?1 IS NULL OR version = ?1) AND (?2 IS NULL OR version <> ?2) ORDER BY id",
                (version, other_than),
            ).fetchall()
        return [_entry(*row) for row in rows]

    def counts(self) -> dict[int, int]:
        """How many entries each version has; versions without any are left out."""
        with _opened(self.path) as connection:
            return dict(connection.execute("SELECT version, count(*) FROM objects GROUP BY version").fetchall())


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        # `rw` makes no file where there is none: a new one would say that nothing is encrypted.
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            with connection:
                yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise KeysetError(f"the inventory {path} cannot be used: {error}", remedy=REBUILD) from error


def _entry(number: int, kind: Kind, name: str, version: int, writer: str | None) -> Entry:
    is_alive = writer is not None and _lives(writer)
    return Entry(
        id=number,
        kind=kind,
        name=name,
        version=version,
        is_being_written=is_alive,
        is_cut_off=writer is not None and not is_alive,
    )


def _me() -> str:
    return f"{os.getpid()} {birth_of(os.getpid())}"


def _lives(writer: str) -> bool:
    """Whether the process that noted itself so still runs; its number may be another's by now."""
    number, _, birth = writer.partition(" ")
    return lives(int(number), birth)
