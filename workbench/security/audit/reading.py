"""The log as it is read: all segments, oldest first, with what was written before there were seals."""

from __future__ import annotations

import fnmatch
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from workbench.security.audit.event import Event
from workbench.security.audit.lines import Seal
from workbench.security.audit.segments import opened, segments

ACTIVE = "events.jsonl"
TAIL_BYTES = 1 << 20
POLL_SECONDS = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Which events are wanted; `*` stands for anything in texts."""

    actor: str = ""
    action: str = ""
    resource: str = ""
    outcome: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def finds(self, event: Event) -> bool:
        """Whether the event is one of them."""
        wanted = ((self.actor, event.actor), (self.action, event.action))
        more = ((self.resource, event.resource), (self.outcome, event.outcome))
        return (
            all(not pattern or fnmatch.fnmatchcase(text, pattern) for pattern, text in (*wanted, *more))
            and (self.since is None or event.time >= self.since)
            and (self.until is None or event.time < self.until)
        )


def search_events(path: Path, search: Search) -> Iterator[Event]:
    """Events of the log at *path*, the oldest first.

    Lines that are no events are passed over, with a warning unless it is a last one that is not whole.

    >>> [event.actor for event in search_events(log.path, Search(action="login.*", outcome="refused"))]
    """
    with opened(path) as (closed, active):
        yield from search_segments(closed, search)
        if active is not None:
            found = _events_of(active, path, 0, is_first=not closed)
            yield from (event for event in found if search.finds(event))


def search_segments(files: Iterable[Path], search: Search) -> Iterator[Event]:
    """The same in some segments."""
    return (event for each in files for event in _events(each) if search.finds(event))


def read_events(
    path: Path, *, actor: str | None = None, action: str | None = None, since: datetime | None = None
) -> Iterator[Event]:
    """Events of the log at *path*, the oldest first; those of one actor, of one action, or from *since* on.

    >>> [event.actor for event in read_events(log.path, action=Action.LOGIN_REFUSED)]
    """
    for event in search_events(path, Search(since=since)):
        if (actor is None or event.actor == actor) and (action is None or event.action == action):
            yield event


def read_last_events(
    path: Path, *, count: int, action: str = "", search: Search | None = None, at_most: int = 0
) -> list[Event]:
    """The newest events, the newest first, as far as the last bytes of the log have them.

    Args:
        path: of the log.
        count: at most so many.
        action: only of this one.
        search: only those that it finds.
        at_most: bytes that are read; 0 is a MiB.
    """
    wanted, left = search or Search(), at_most or TAIL_BYTES
    newest: list[Event] = []
    with opened(path) as (closed, active):
        for each in [*([path] if active else []), *reversed(closed)]:
            with nullcontext(active) if active and each is path else each.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                events = _events_of(file, each, max(0, size - left), is_first=each == [*closed, path][0])
                found = [each for each in events if (not action or each.action == action) and wanted.finds(each)]
            newest += reversed(found)
            left -= size
            if left <= 0 or len(newest) >= count:
                break
    return newest[:count]


def follow_events(
    path: Path,
    search: Search,
    *,
    wait: Callable[[float], object] = time.sleep,
    failed: Callable[[OSError], object] | None = None,
) -> Iterator[Event]:
    """Events that are written after the call, for ever; over the borders of segments, however many are closed at once.

    Args:
        path: of the log.
        search: which are wanted.
        wait: called with seconds while there is nothing new.
        failed: called when the log cannot be read, which is then tried again from the same place; None raises.
    """
    return _follow(path, search, _end(path), wait, failed)


@dataclass(frozen=True)
class _Place:
    """How far a log was read."""

    closed: str  #: name of the newest closed file; empty without one
    inode: int  #: of the file that was written then; 0 is none
    position: int  #: in that file, before a line


def _end(path: Path) -> _Place:
    with opened(path) as (closed, active):
        if active is None:
            return _Place(_newest(closed), 0, 0)
        status = os.fstat(active.fileno())
        return _Place(_newest(closed), status.st_ino, _whole_bytes(active, max(0, status.st_size - TAIL_BYTES)))


def _newest(closed: list[Path]) -> str:
    return closed[-1].name if closed else ""


def _follow(
    path: Path,
    search: Search,
    place: _Place,
    wait: Callable[[float], object],
    failed: Callable[[OSError], object] | None,
) -> Iterator[Event]:
    while True:
        try:
            found, after = _look(path, place)
        except OSError as error:
            if failed is None:
                raise
            failed(error)
            wait(POLL_SECONDS)
            continue
        # Not before all of it is read: what is read again after an error would come twice.
        yield from (event for event in found if search.finds(event))
        if after == place:
            wait(POLL_SECONDS)
        place = after


def _look(path: Path, place: _Place) -> tuple[list[Event], _Place]:
    """What was written after *place*, and the place after that."""
    with opened(path) as (closed, active):
        found = [event for each in closed if each.name > place.closed for event in _events(each, place)]
        inode = end = 0
        if active is not None:
            inode = os.fstat(active.fileno()).st_ino
            start = place.position if inode == place.inode else 0
            end = _whole_bytes(active, start)
            found += _events_of(active, path, start, end, is_first=not closed)
        return found, _Place(_newest(closed), inode, end)


def _whole_bytes(file: BinaryIO, start: int) -> int:
    """Where the last line that is whole ends, at or after *start*."""
    file.seek(start)
    return start + file.read().rfind(b"\n") + 1


def _events(path: Path, place: _Place | None = None) -> Iterator[Event]:
    """Events of one segment, behind *place* if that is in it; none of one that is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        is_here = place is not None and os.fstat(file.fileno()).st_ino == place.inode
        start = place.position if place is not None and is_here else 0
        yield from _events_of(file, path, start, is_first=segments(path.with_name(ACTIVE))[:1] == [path])


def _events_of(file: BinaryIO, path: Path, start: int, end: int | None = None, *, is_first: bool) -> Iterator[Event]:
    """Events of an open segment; lines without a seal count only before the first that has one, in the first segment."""
    is_old = is_first and Seal.of_line(file.readline()) is None
    file.seek(max(0, start - 1))
    if start:
        file.readline()  # what is left of a line that began before
    while end is None or file.tell() < end:
        line = file.readline()
        if not line.endswith(b"\n"):
            return
        is_sealed = Seal.of_line(line) is not None
        is_old = is_old and not is_sealed
        event = _event(line) if is_sealed or is_old else None
        if event is not None:
            yield event
        else:
            log.warning("%s: a line before byte %s is no event", path, file.tell())


def _event(line: bytes) -> Event | None:
    try:
        return Event.of_line(line)
    except ValueError:
        return None
