"""Archives what is in WORKBENCH_HOME beside the warehouse: files as they are, SQLite's by its own backup."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import shutil
import sqlite3
import stat
import tarfile
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workbench.errors import BackupError
from workbench.security.secrets import private_folder
from workbench.warehouse.backup.walking import CHANGED, Found, walk

# Made again by the next start, of this machine alone, too large, or in the other part.
LEFT_OUT = frozenset({
    *("postgres", "kafka", "spark", "checkpoints", "warehouse", "run", "logs", "jars", "cache", "archive", "backup"),
    "credentials",
})  # fmt: skip
# The keyset has a place of its own in the repository, as keys of subjects have, of which no older ones may come back;
# the root key is never beside what it protects.
KEYSET_FILES = frozenset({"keyset.json", "root.key", "subjects.db"})
SCRATCH = "scratch."
SQLITE = b"SQLite format 3\0"
SQLITE_SIDES = ("-wal", "-shm", "-journal")
BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are (stat(2))
# A file of holes costs nothing, is read as zeros for hours, and would fill the disk when it is restored.
MOST_HOLES = 1 << 30

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Source:
    home: Path
    include: tuple[Path, ...]
    root: Path | None


@contextmanager
def archive(home: Path, include: Sequence[Path], root: Path | None) -> Iterator[BinaryIO]:
    """A compressed tar of the home and of what is included, as it is made by a thread.

    Args:
        home: WORKBENCH_HOME.
        include: files and folders outside of it.
        root: file of the root key, which is left out wherever it lies.

    Raises:
        BackupError: at the end, when something could not be read.
    """
    source = _Source(home, tuple(include), root)
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


@contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A folder beside the data for what is needed in clear for a moment."""
    with tempfile.TemporaryDirectory(dir=private_folder(home / "backup"), prefix=SCRATCH) as scratch:
        yield Path(scratch)


def clear_scratch(home: Path) -> None:
    """Remove what a backup that was killed has left of that. Call it when no other one is being made."""
    for path in (home / "backup").glob(f"{SCRATCH}*"):
        shutil.rmtree(path)


def _fill(tar: tarfile.TarFile, source: _Source) -> None:
    # sqlite's own copies are whole whatever is being written; they need a place for a moment.
    with scratch_folder(source.home) as scratch:
        filling = _Filling(tar, source, scratch / "copy")
        keys = source.home / "keys"
        for path in sorted(source.home.iterdir()):
            if path.name not in LEFT_OUT and path != keys:
                filling.add(path, f"home/{path.name}")
        for number, path in enumerate(source.include):
            filling.add(path, f"included/{number}-{path.name}")
        # Last, so that the inventory names whatever encrypted file is in the archive, however young.
        filling.add(keys, "home/keys")
    filling.tell()


class _Filling:
    """One archive while it is made."""

    def __init__(self, tar: tarfile.TarFile, source: _Source, scratch: Path) -> None:
        self._tar, self._keys, self._scratch = tar, source.home / "keys", scratch
        kept = [*(self._keys / name for name in KEYSET_FILES), *([source.root] if source.root else [])]
        # By what they are: whatever path leads to them.
        self._kept_elsewhere = {identity for each in kept if (identity := _identity(each)) is not None}
        self._copied: set[str] = set()
        self._left_out: Counter[str] = Counter()
        self._examples: dict[str, Path] = {}

    def add(self, top: Path, name: str) -> None:
        """Add a file, or a folder with all that is in it."""
        for found in walk(top, name, skip=self._is_elsewhere, tell=self._leave_out):
            kind = stat.S_IFMT(found.status.st_mode)
            if kind == stat.S_IFDIR:
                self._tar.addfile(_info(found.name, found.status, tarfile.DIRTYPE))
            elif kind == stat.S_IFLNK:
                self._add_link(found)
            elif kind == stat.S_IFREG and (descriptor := found.open()) is not None:
                with os.fdopen(descriptor, "rb") as file:
                    self._add_file(found, file)

    def tell(self) -> None:
        """Log what could not be added."""
        for reason, count in self._left_out.items():
            example = f"{str(self._examples[reason])!r:.200}"
            logger.warning("%d files or folders are not in the backup, such as %s: %s", count, example, reason)

    def _leave_out(self, path: Path, reason: str) -> None:
        self._left_out[reason] += 1
        self._examples.setdefault(reason, path)

    def _is_elsewhere(self, found: Found) -> bool:
        """Whether it is in another part of the backup, or in the copy that SQLite has made of its database."""
        if self._is_kept_elsewhere(found.status):
            return True
        if found.path.parent == self._keys and found.path.name in KEYSET_FILES:
            return True
        return found.name.endswith(SQLITE_SIDES) and found.name[: found.name.rindex("-")] in self._copied

    def _is_kept_elsewhere(self, status: os.stat_result) -> bool:
        return (status.st_dev, status.st_ino) in self._kept_elsewhere

    def _add_link(self, found: Found) -> None:
        try:
            target = Path(os.readlink(found.path.name, dir_fd=found.folder))
        except OSError as error:
            if error.errno in {*CHANGED, errno.EINVAL}:
                return  # it is no link any more
            raise
        if not target.is_absolute() and ".." not in target.parts:
            info = _info(found.name, found.status, tarfile.SYMTYPE)
            info.linkname = str(target)
            self._tar.addfile(info)

    def _add_file(self, found: Found, file: BinaryIO) -> None:
        status = os.fstat(file.fileno())
        if self._is_kept_elsewhere(status):
            return  # it was put into the place of what was looked at
        # SQLite opens a database by its path. Where others may change that, it is a file as any other.
        is_database = found.is_safe and status.st_uid == os.geteuid() and file.read(len(SQLITE)) == SQLITE
        if is_database and _copied(found.path, self._scratch):
            self._copied.add(found.name)
            with self._scratch.open("rb") as copy:
                self._add_content(found.name, status, copy)
        elif status.st_size - BLOCK_BYTES * status.st_blocks > MOST_HOLES:
            self._leave_out(found.path, f"it has more than {MOST_HOLES >> 30} GiB of holes")
        else:
            file.seek(0)
            self._add_content(found.name, status, file)

    def _add_content(self, name: str, status: os.stat_result, file: BinaryIO) -> None:
        info = _info(name, status, tarfile.REGTYPE)
        info.size = os.fstat(file.fileno()).st_size
        self._tar.addfile(info, _Padded(file))  # type: ignore[arg-type]


def _info(name: str, status: os.stat_result, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, stat.S_IMODE(status.st_mode), status.st_mtime
    info.uid, info.gid = status.st_uid, status.st_gid
    return info


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _copied(path: Path, scratch: Path) -> bool:
    """Whether SQLite could copy its database; what only begins like one is a file as any other."""
    scratch.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as origin,
            closing(sqlite3.connect(scratch)) as copy,
        ):
            origin.backup(copy)
    except sqlite3.Error:
        return False
    return True


class _Padded:
    """A file that keeps the length which was promised, whoever cuts it off meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, length: int) -> bytes:
        """*length* bytes; zeros where there are none any more."""
        return self._file.read(length).ljust(length, b"\0")
