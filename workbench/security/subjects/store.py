"""The file of the keys of subjects: one SQLite file beside the keyset, of mode 0600, for one machine.

Not a table of the warehouse: PostgreSQL keeps what was deleted in its files until VACUUM, in its write-ahead
log, and in each backup. Here a key that is destroyed is overwritten, and of the file there is one copy at most,
the newest (`workbench.warehouse.backup.subject_keys`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import KeysetError
from workbench.security.secrets import private_folder, sync_folder

BUSY_SECONDS = 30.0
RESTORE = "Restore it from a backup of the workbench: without it, what it has encrypted cannot be read."
TABLES = """
CREATE TABLE about (erasures INTEGER NOT NULL, fingerprint_key TEXT NOT NULL);
CREATE TABLE subjects (
  kind         TEXT NOT NULL,
  fingerprint  BLOB NOT NULL,
  id           BLOB,
  key          BLOB,
  PRIMARY KEY (kind, fingerprint)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class StoredKey:
    """What the file has of one subject; without a header its key was destroyed."""

    id: bytes | None
    header: bytes | None = field(repr=False)  #: of its data key, which the keyset wraps


class SubjectStore:
    """The file. Each call opens it, so threads, processes and forks may use it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, home: Path) -> SubjectStore:
        """That of the workbench whose WORKBENCH_HOME is *home*, whether or not it is there."""
        return cls(home / "keys" / "subjects.db")

    @property
    def exists(self) -> bool:
        """Whether any subject ever had a key, or was erased before it had one."""
        return self.path.exists()

    def create(self, fingerprint_key: str) -> None:
        """Make it, if it is not there.

        Args:
            fingerprint_key: of the fingerprints in it, which would be of no use in a copy without it.
        """
        if self.exists:
            return
        private_folder(self.path.parent)
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with _opened(fresh) as connection:
                connection.executescript(TABLES)
                connection.execute("INSERT INTO about VALUES (0, ?)", (fingerprint_key,))
            os.link(fresh, self.path)
        except FileExistsError:
            pass  # another process was quicker
        finally:
            fresh.unlink()
        sync_folder(self.path.parent)

    def fingerprint_key(self) -> str:
        """What `create` was given."""
        with _opened(self.path) as connection:
            return str(connection.execute("SELECT fingerprint_key FROM about").fetchone()[0])

    def erasures(self) -> int:
        """How often keys were destroyed: whoever remembers keys forgets them when it is another number."""
        with _opened(self.path) as connection:
            return int(connection.execute("SELECT erasures FROM about").fetchone()[0])

    def read(self, kind: str, fingerprints: Collection[str]) -> dict[str, StoredKey]:
        """What is there of these subjects, by fingerprint."""
        with _opened(self.path) as connection:
            return _found(connection, kind, fingerprints)

    def add(self, kind: str, keys: Mapping[str, StoredKey]) -> dict[str, StoredKey]:
        """Keep keys of subjects that have none, on the disk when this returns; gives what is there of them now."""
        with _opened(self.path) as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO subjects VALUES (?, ?, ?, ?)",
                [(kind, bytes.fromhex(each), stored.id, stored.header) for each, stored in keys.items()],
            )
            _count_change(connection)
            return _found(connection, kind, keys)

    def destroy(self, named: Iterable[tuple[str, str]]) -> int:
        """Overwrite the keys of these kinds and fingerprints, and remember that; returns how many had one."""
        with _opened(self.path) as connection:
            destroyed = 0
            for kind, fingerprint in named:
                subject = (kind, bytes.fromhex(fingerprint))
                held = "UPDATE subjects SET key = NULL WHERE kind = ? AND fingerprint = ? AND key IS NOT NULL"
                destroyed += connection.execute(held, subject).rowcount
                connection.execute("INSERT OR IGNORE INTO subjects (kind, fingerprint) VALUES (?, ?)", subject)
            connection.execute("UPDATE about SET erasures = erasures + 1")
            _count_change(connection)
        return destroyed

    def erased(self) -> set[tuple[str, str]]:
        """Kind and fingerprint of everybody whose key was destroyed."""
        with _opened(self.path) as connection:
            rows = connection.execute("SELECT kind, fingerprint FROM subjects WHERE key IS NULL").fetchall()
        return {(kind, fingerprint.hex()) for kind, fingerprint in rows}

    def headers(self, after: tuple[str, bytes], count: int) -> Sequence[tuple[str, bytes, bytes]]:
        """The next keys: kind, fingerprint and header."""
        with _opened(self.path) as connection:
            return connection.execute(
                "SELECT kind, fingerprint, key FROM subjects WHERE key IS NOT NULL AND (kind, fingerprint) > (?, ?)"
                " ORDER BY kind, fingerprint LIMIT ?",
                (*after, count),
            ).fetchall()

    def replace(self, changed: Iterable[tuple[str, bytes, bytes, bytes]]) -> None:
        """Put another header in the place of one: kind, fingerprint, old and new; what has changed meanwhile stays."""
        with _opened(self.path) as connection:
            connection.executemany(
                "UPDATE subjects SET key = ?4 WHERE kind = ?1 AND fingerprint = ?2 AND key = ?3", changed
            )
            _count_change(connection)

    def counts(self) -> tuple[int, int]:
        """How many subjects have a key, and how many were erased."""
        with _opened(self.path) as connection:
            row = connection.execute("SELECT count(key), count(*) - count(key) FROM subjects").fetchone()
        return int(row[0]), int(row[1])

    def changes(self) -> int:
        """How often keys were made, destroyed or moved."""
        with _opened(self.path) as connection:
            return _changes(connection)

    def copy(self, target: Path) -> int:
        """A whole copy at *target*, which is not there yet, whoever writes meanwhile; returns the `changes` in it."""
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with _opened(self.path) as connection, closing(sqlite3.connect(target)) as copy:
            connection.backup(copy)
            return _changes(copy)


def _changes(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _count_change(connection: sqlite3.Connection) -> None:
    # In the transaction of the change. SQLite's own counter could be read only by opening the file beside it, which
    # takes away the locks that the process has on it (sqlite.org/howtocorrupt.html, 2.2).
    if connection.in_transaction:  # else nothing was given to change
        connection.execute(f"PRAGMA user_version = {_changes(connection) + 1}")


def _found(connection: sqlite3.Connection, kind: str, fingerprints: Iterable[str]) -> dict[str, StoredKey]:
    found: dict[str, StoredKey] = {}
    for each in fingerprints:
        query = "SELECT id, key FROM subjects WHERE kind = ? AND fingerprint = ?"
        if row := connection.execute(query, (kind, bytes.fromhex(each))).fetchone():
            found[each] = StoredKey(*row)
    return found


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        # `rw` makes no file where there is none: a new one would say that nobody has a key.
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)
        ) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            with connection:
                yield connection
    except sqlite3.Error as error:
        raise KeysetError(f"the keys of subjects in {path} cannot be used: {error}", remedy=RESTORE) from error
