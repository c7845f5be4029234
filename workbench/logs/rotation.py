"""Bounds logs that other programs write: what is full goes to NAME.1, what was there to NAME.2, and the oldest goes.

The writers know nothing of it. They append to a file that stays the same: Java, PostgreSQL, traefik and what they
start as well as our own processes.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from workbench.background import Background

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
FALLOC_FL_COLLAPSE_RANGE = 0x08  # linux/falloc.h
PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class LogLimits:
    """How much is kept of one log: at most *size_bytes* and what is written between two looks, and *keep* older files."""

    size_bytes: int = 16 * 1024 * 1024
    keep: int = 3


def rotate(log: Path, limits: LogLimits) -> bool:
    """Cut *log* when it is longer than its limit; whether it was.

    Where the file system can take away the beginning of a file (ext4 and XFS on Linux), no byte is lost: the older
    files and this one, joined, are what was written, even when a line goes from one into the next. Elsewhere, what is
    written between the last byte copied and the cut is lost. On a full disk, what cannot be kept is left out: to bound
    the log comes first.

    Raises:
        OSError: when it cannot be cut.
    """
    try:
        descriptor = os.open(log, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    with os.fdopen(descriptor, "rb+", buffering=0):
        size = os.fstat(descriptor).st_size
        if size <= limits.size_bytes:
            return False
        block = os.fstatvfs(descriptor).f_bsize
        # The end of a file cannot be taken away so: at least one byte stays.
        begin = (size - 1) // block * block
        with _kept(log, limits) as kept:
            kept.copy(descriptor, 0, begin)
            # Whoever is killed between here and the cut has kept something twice.
            kept.publish()
            if not _collapse(descriptor, begin):
                kept.copy(descriptor, begin, None)
                os.truncate(descriptor, 0)
    return True


def older_logs(log: Path) -> list[Path]:
    """What `rotate` has kept of *log*, the oldest first."""
    numbers = (each.name.removeprefix(f"{log.name}.") for each in log.parent.glob(f"{log.name}.*"))
    return [log.with_name(f"{log.name}.{n}") for n in sorted((int(n) for n in numbers if n.isdecimal()), reverse=True)]


class LogKeeper(Background):
    """A context manager that keeps logs bounded, in a thread of its own.

    Args:
        logs: which, asked at each look.
        limits: how much is kept of each.
    """

    def __init__(self, logs: Callable[[], Iterable[Path]], limits: LogLimits) -> None:
        super().__init__("bound-logs", self._keep, end_seconds=None)
        self._logs, self._limits = logs, limits
        self._told: set[Path] = set()

    def _keep(self, stopping: threading.Event) -> None:
        while not stopping.wait(LOOK_SECONDS):
            with suppress(OSError):  # of a folder that is just going
                for each in self._logs():
                    self._bound(each)

    def _bound(self, log: Path) -> None:
        try:
            rotate(log, self._limits)
        except OSError as error:
            if log not in self._told:
                self._told.add(log)
                logger.warning("%s cannot be cut, and grows: %s", log, error)


class _Kept:
    """What becomes NAME.1."""

    def __init__(self, log: Path, limits: LogLimits, descriptor: int) -> None:
        self._log, self._limits, self._descriptor = log, limits, descriptor
        self._is_whole = True

    def copy(self, source: int, begin: int, end: int | None) -> None:
        """Add what *source* has from *begin* to *end*, None for all that there is."""
        if not self._is_whole:
            return
        try:
            _copy(source, self._descriptor, begin, end)
        except OSError as error:
            logger.warning("%s is cut, and what was in it is not kept: %s", self._log, error)
            self._is_whole = False

    def publish(self) -> None:
        """Make it NAME.1, what was there NAME.2, and let the oldest go; nothing when it could not be copied."""
        if not self._is_whole:
            return
        for old in older_logs(self._log):
            number = int(old.suffix[1:])
            if number >= self._limits.keep:
                old.unlink(missing_ok=True)
            else:
                old.replace(self._log.with_name(f"{self._log.name}.{number + 1}"))
        if self._limits.keep:
            _fresh(self._log).replace(self._log.with_name(f"{self._log.name}.1"))


@contextmanager
def _kept(log: Path, limits: LogLimits) -> Iterator[_Kept]:
    fresh = _fresh(log)
    fresh.unlink(missing_ok=True)  # of a process that was killed
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:
            yield _Kept(log, limits, file.fileno())
    finally:
        fresh.unlink(missing_ok=True)


def _fresh(log: Path) -> Path:
    return log.with_name(f"{log.name}.new")


def _copy(source: int, target: int, begin: int, end: int | None) -> None:
    while end is None or begin < end:
        piece = os.pread(source, PIECE_BYTES if end is None else min(PIECE_BYTES, end - begin), begin)
        if not piece:
            return
        begin += len(piece)
        while piece:
            piece = piece[os.write(target, piece) :]


def _collapse(descriptor: int, length: int) -> bool:
    """Take the first *length* bytes out of the file, whoever appends to it meanwhile; whether that can be done here."""
    if not length or sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    offset = ctypes.c_int64  # off_t of 64-bit Linux
    return not libc.fallocate(descriptor, FALLOC_FL_COLLAPSE_RANGE, offset(0), offset(length))
