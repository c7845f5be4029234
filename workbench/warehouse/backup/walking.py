"""Walks through folders that others may change meanwhile, without ever being led out of them.

Every folder is opened below its parent's descriptor and never by its path: whoever exchanges a folder for a link while
it is looked at gets an error of the system, and not the target read (openat(2), CWE-367).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Of a name in the archive. Restored below another folder it has to fit into PATH_MAX, which is 4,096.
MOST_BYTES = 2000
# A descriptor is open for each folder above; a process may have 1,024 by default.
MOST_FOLDERS = 200
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# It is gone, or became something else since it was looked at.
CHANGED = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR})


@dataclass(frozen=True, kw_only=True)
class Found:
    """Something in a folder."""

    name: str  #: in the archive
    path: Path  #: where it was, to tell of it; not to open it
    status: os.stat_result
    folder: int  #: descriptor of the folder that it is in, until the next one is asked for
    is_safe: bool  #: whether nobody but us may change what is in the folders that lead to it

    def open(self) -> int | None:
        """A descriptor to read from; None when it is no file, or no file any more. A pipe is not waited for."""
        try:
            descriptor = os.open(
                self.path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.folder
            )
        except OSError as error:
            if error.errno in CHANGED:
                return None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return descriptor


@dataclass(frozen=True)
class _Level:
    descriptor: int
    found: Iterator[Found]


def walk(
    top: Path, name: str, *, skip: Callable[[Found], bool], tell: Callable[[Path, str], object]
) -> Iterator[Found]:
    """*top*, and everything in it, each folder before what it holds.

    Args:
        top: a file or folder; the folders above it are trusted.
        name: that of *top* in the archive.
        skip: whether to leave something out, and what is in it.
        tell: called with what is left out because it could not be restored, and why.

    Raises:
        OSError: when something cannot be read.
    """
    above = os.open(top.parent, FOLDER)
    levels = [_Level(above, _look(above, {top: name}, is_safe=True))]
    try:
        while levels:
            if (found := next(levels[-1].found, None)) is None:
                os.close(levels.pop().descriptor)
                continue
            if skip(found):
                continue
            if len(os.fsencode(found.name)) > MOST_BYTES or len(levels) > MOST_FOLDERS:
                tell(found.path, "its path is too long")
                continue
            yield found
            if stat.S_ISDIR(found.status.st_mode) and (level := _enter(found)) is not None:
                levels.append(level)
    finally:
        for each in levels:
            os.close(each.descriptor)


def _look(folder: int, names: Mapping[Path, str], *, is_safe: bool) -> Iterator[Found]:
    """What is there of *names*, paths with their names in the archive, each looked at when it comes to its turn."""
    for path, name in names.items():
        try:
            status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield Found(name=name, path=path, status=status, folder=folder, is_safe=is_safe)


def _enter(found: Found) -> _Level | None:
    """The folder with what is in it; None when it is none any more."""
    try:
        descriptor = os.open(found.path.name, FOLDER | os.O_NOFOLLOW, dir_fd=found.folder)
    except OSError as error:
        if error.errno in CHANGED:
            return None
        raise
    status = os.fstat(descriptor)
    is_ours = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    names = sorted(os.listdir(descriptor))  # noqa: PTH208 - pathlib has no descriptors
    inside = {found.path / each: f"{found.name}/{each}" for each in names}
    return _Level(descriptor, _look(descriptor, inside, is_safe=found.is_safe and is_ours))
