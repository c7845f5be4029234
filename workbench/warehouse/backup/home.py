"""Archives what is in WORKBENCH_HOME beside the warehouse: files as they are, SQLite's by its own backup."""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import stat
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workbench.errors import BackupError
from workbench.security.secrets import private_folder

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
        for path in sorted(source.home.iterdir()):
            if path.name not in LEFT_OUT:
                _add(tar, source, path, f"home/{path.name}", scratch / "copy")
        for number, path in enumerate(source.include):
            _add(tar, source, path, f"included/{number}-{path.name}", scratch / "copy")


def _add(tar: tarfile.TarFile, source: _Source, path: Path, name: str, scratch: Path) -> None:
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
    # It may have become a link or a pipe since it was looked at, by whoever owns the folder.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        is_database = status.st_uid == os.geteuid() and file.read(len(SQLITE)) == SQLITE
        if is_database and _copied(path, scratch):
            with scratch.open("rb") as copy:
                _add_content(tar, copy, name, status.st_mode)
        else:
            file.seek(0)
            _add_content(tar, file, name, status.st_mode)


def _add_content(tar: tarfile.TarFile, file: BinaryIO, name: str, mode: int) -> None:
    info = tar.gettarinfo(arcname=name, fileobj=file)
    # A second name of a file is a file of its own.
    info.type, info.mode = tarfile.REGTYPE, mode
    info.size = os.fstat(file.fileno()).st_size
    tar.addfile(info, _Padded(file))  # type: ignore[arg-type]


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


def _is_left_out(source: _Source, path: Path) -> bool:
    if path.parent == source.home / "keys" and path.name in KEYSET_FILES:
        return True
    if source.root is not None and path == source.root:
        return True
    return path.name.endswith(SQLITE_SIDES) and path.with_name(_without_side(path.name)).exists()


def _without_side(name: str) -> str:
    return name[: name.rindex("-")]
