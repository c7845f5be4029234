"""The log as it is written: on the disk before it counts as recorded, and never anything but appended to."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from workbench.errors import AuditError
from workbench.security.audit.actions import Action, Outcome
from workbench.security.audit.event import Event
from workbench.security.audit.lines import Seal, digest, sealed
from workbench.security.audit.segments import Tail, closed_name, locked, read_tail
from workbench.security.secrets import sync_folder

ACTOR = "audit"  #: of what the log tells of itself
RESOURCE = "audit"
SEGMENT_BYTES = 64 << 20
CLOCK_TOLERANCE = 2000  #: milliseconds by which the clock may be set back without a word; time stands still meanwhile


@dataclass
class _Ticket:
    events: Sequence[Event]
    is_done: bool = False
    error: BaseException | None = None


@dataclass
class _Queue:
    """Events of the threads of this process; the thread that leads writes those of all."""

    waiting: list[_Ticket] = field(default_factory=list)
    joining: threading.Lock = field(default_factory=threading.Lock)
    leading: threading.Lock = field(default_factory=threading.Lock)
    tail: Tail | None = None  #: as this process has left it

    def __deepcopy__(self, memo: object) -> Self:
        # A lock cannot be copied; copies of a log write the same file.
        return self


@dataclass(frozen=True)
class AuditLog:
    """The file that all processes of a workbench append to, in any number at once."""

    path: Path
    segment_bytes: int = SEGMENT_BYTES  #: a larger file is closed, and another begun
    _queue: _Queue = field(default_factory=_Queue, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, home: Path) -> AuditLog:
        """The audit log of the workbench whose WORKBENCH_HOME is *home*."""
        return cls(home / "audit" / "events.jsonl")

    def record(self, action: str, *, actor: str, resource: str, outcome: str = "", **details: object) -> None:
        """Append what has just happened, see `Event.of`; when this returns, it is on the disk.

        >>> log.record(Action.LOGIN_SUCCEEDED, actor="gh-ada", resource="hub", provider="github")

        Raises:
            AuditError: as `append`.
        """
        self.append(Event.of(action, actor=actor, resource=resource, outcome=outcome, **details))

    def append(self, *events: Event) -> None:
        """Append the events, in this order; when this returns, they are on the disk. The only place that writes the log.

        What other threads append meanwhile goes to the disk with the same fsync.

        Raises:
            AuditError: when they are not. A full disk leaves nothing of them that a reader would take for an event.
        """
        if not events:
            return
        ticket, queue = _Ticket(events), self._queue
        with queue.joining:
            queue.waiting.append(ticket)
        with queue.leading:
            if not ticket.is_done:
                self._lead()
        if ticket.error is not None:
            raise unwritable(self.path, ticket.error) from ticket.error

    def tail(self) -> Tail:
        """The end of the log, on the disk; what a crash has left there is recorded first.

        Raises:
            AuditError: when it can be neither read nor repaired.
        """
        try:
            with locked(self.path) as descriptor:
                tail = _write(descriptor, read_tail(descriptor, self.path), ())
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.fsync(descriptor)
                return tail
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _lead(self) -> None:
        queue = self._queue
        with queue.joining:
            batch, queue.waiting = queue.waiting, []
        events = [event for each in batch for event in each.events]
        error: BaseException | None = None
        try:
            queue.tail = self._commit(events)
        except BaseException as failure:  # noqa: BLE001 - each of those who wait is told
            queue.tail, error = None, failure
        for each in batch:
            each.is_done, each.error = True, error

    def _commit(self, events: Sequence[Event]) -> Tail:
        while True:
            with locked(self.path) as descriptor:
                tail = self._tail(descriptor)
                if not tail.unsealed and tail.file[2] >= self.segment_bytes:
                    # Whoever waits for the lock will see that the file has another name. Its lines come first on the disk.
                    os.fsync(descriptor)
                    self.path.rename(closed_name(self.path, tail.sequence))
                    sync_folder(self.path.parent)
                    continue
                tail = _write(descriptor, tail, events)
                # Others write meanwhile, and their fsync does for us what ours does for them: all of the file goes along.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.fsync(descriptor)
                return tail

    def _tail(self, descriptor: int) -> Tail:
        known, status = self._queue.tail, os.fstat(descriptor)
        if known is not None and known.file == (status.st_dev, status.st_ino, status.st_size):
            return known
        return read_tail(descriptor, self.path)


def unwritable(path: Path, error: BaseException) -> AuditError:
    """The error of an action whose event cannot be written."""
    number = error.errno if isinstance(error, OSError) else None
    reason = error.strerror if isinstance(error, OSError) else repr(error)
    is_full = number in {errno.ENOSPC, errno.EDQUOT}
    return AuditError(
        f"the audit log {path} cannot be written: {'the disk is full: ' if is_full else ''}{reason}",
        remedy="Make room on its disk, and let the user who runs the hub own the folder. "
        "What has to be audited is refused until then.",
    )


def _write(descriptor: int, tail: Tail, events: Sequence[Event]) -> Tail:
    """Seal the events, and before them what the log has to tell of itself."""
    now = time.time_ns() // 1_000_000
    mended, lead, told = _mend(tail)
    if mended.sequence and now < mended.time - CLOCK_TOLERANCE:
        told.append(_own(Action.AUDIT_CLOCK_WENT_BACK, milliseconds=mended.time - now))
    lines, sequence, previous, written = [lead], mended.sequence, mended.hash, mended.time
    for event in (*told, *events):
        sequence += 1
        # Time goes back at the line that says so, and at no other.
        written = now if event.action == Action.AUDIT_CLOCK_WENT_BACK else max(now, written)
        line = sealed(event, Seal(previous, sequence, written))
        previous = digest(line)
        lines.append(line)
    content = b"".join(lines)
    if content:
        append_whole(descriptor, content)
    device, inode, size = tail.file
    return Tail(sequence, previous, written, b"", (device, inode, size + len(content)))


def _mend(tail: Tail) -> tuple[Tail, bytes, list[Event]]:
    """The tail that the next line continues, what is written before it, and what is told of bytes that nobody sealed."""
    text = tail.unsealed
    end = b"\n" if text and not text.endswith(b"\n") else b""
    told = {"bytes": len(text), "sha256": digest(text)}
    if not tail.sequence:
        lines = text.count(b"\n") + len(end)
        begun = _own(Action.AUDIT_BEGUN, log=uuid.uuid4().hex, lines=lines, **told)
        return Tail(0, digest(text), 0), end, [begun]
    if not text:
        return tail, b"", []
    seal = Seal.of_line(text + end)
    if end and seal and (seal.sequence, seal.previous) == (tail.sequence + 1, tail.hash):
        # It lacked nothing but its line feed.
        return Tail(seal.sequence, digest(text + end), seal.time), end, []
    return tail, end, [_own(Action.AUDIT_LINE_TORN, **told)]


def _own(action: Action, **details: object) -> Event:
    return Event(ACTOR, action, RESOURCE, Outcome.SUCCESS, {name: str(value) for name, value in details.items()})


def append_whole(descriptor: int, content: bytes) -> None:
    """Append all of it or nothing.

    Raises:
        OSError: when there is no room.
    """
    end = os.lseek(descriptor, 0, os.SEEK_END)
    view = memoryview(content)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.ftruncate(descriptor, end)
        raise
