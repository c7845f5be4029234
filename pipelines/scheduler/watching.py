"""What has happened that starts runs: files that are new or changed, and ends of other pipelines' runs.

An event has an id that is the same whoever sees it and whenever, so that it starts one run. A watch
looks back from where it has come by `OVERLAP`: what is written first is not always seen first. A cursor that is
further ahead of the clock than that comes of a clock that was wrong; whoever looks puts it back.
"""

from __future__ import annotations

import glob
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.definition.triggers import FileTrigger, PipelineTrigger
from pipelines.states import State
from pipelines.store.pages.runs import ended_runs

if TYPE_CHECKING:
    from sqlalchemy import Connection

OVERLAP = timedelta(minutes=10)
SETTLED_SECONDS = 2.0  # a file that changed a moment ago may still be written
ASKED_AT_ONCE = 1000  # events of which the store is asked whether they have their runs


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One event."""

    id: str  #: of the store
    event: str  #: `${trigger.event}`
    instant: datetime  #: `${run.instant}`
    seen: datetime  #: the cursor that the watch may come to with it


def files_time() -> datetime:
    """What the clock says that stamps files: that of this machine, as far as it is known here."""
    return datetime.now(UTC)


def watch_files(trigger: FileTrigger, root: Path, cursor: datetime) -> Iterator[Happening]:
    """Files that fit and have changed since; a path is relative to *root*.

    What counts is when a file came to its place or was last written, so one that is moved there is new.
    """
    since = (cursor - OVERLAP).timestamp()
    folder = f"{root}{os.sep}"
    # Path.glob takes no absolute pattern.
    for name in sorted(glob.glob(str(root / trigger.path), recursive=True)):  # noqa: PTH207
        try:
            found = os.stat(name)  # noqa: PTH116 - a Path of each of ten thousand takes longer than the look itself
        except OSError:
            continue
        changed = max(found.st_mtime, found.st_ctime)
        if not stat.S_ISREG(found.st_mode) or changed < since or time.time() - changed < SETTLED_SECONDS:
            continue
        shown = name.removeprefix(folder)
        tag = f"{found.st_mtime_ns:x}-{found.st_size:x}"
        moment = datetime.fromtimestamp(changed, UTC)
        yield Happening(id=f"{shown} {tag}", event=shown, instant=moment, seen=moment)


def watch_pipeline(trigger: PipelineTrigger, connection: Connection, cursor: datetime) -> Iterator[Happening]:
    """Runs that have ended so since. The runs they start are of the same logical instant."""
    states = [State(each) for each in trigger.on]
    for run in ended_runs(connection, trigger.name, states, cursor - OVERLAP):
        # A run that was repaired has ended once more.
        number = f"{run.id}.{run.repairs}" if run.repairs else str(run.id)
        event = f"{trigger.name} {number}"
        yield Happening(id=event, event=event, instant=run.instant or run.ended_at, seen=run.ended_at)


class Backlog:
    """What a trigger has seen, the oldest first, until it is dealt with.

    A scheduler that takes over sees thousands of events at once, of which most have their runs. They are dealt
    with a few at a time, and the cursor comes no further than what was: what is left is seen again by whoever
    goes on from there.
    """

    def __init__(self) -> None:
        self._done: set[str] = set()  # of what is still seen
        self._seen: deque[Happening] = deque()  # the store may have runs of them
        self._new: deque[Happening] = deque()  # it had none when it was asked

    def __bool__(self) -> bool:
        """Whether something is left."""
        return bool(self._seen or self._new)

    def see(self, found: Iterable[Happening]) -> None:
        """Take all that is seen now; nothing may be left of before."""
        by_id = {each.id: each for each in found}
        self._done &= by_id.keys()
        left = (each for each in by_id.values() if each.id not in self._done)
        self._seen.extend(sorted(left, key=lambda each: (each.seen, each.id)))

    def first(self, most: int, known: Callable[[Collection[str]], Collection[str]]) -> list[Happening]:
        """The first events without a run, at most *most*; they stay until they are `done`.

        Args:
            most: how many are wanted.
            known: which of some ids have their runs; it is asked once, and about `ASKED_AT_ONCE` at most.
        """
        if len(self._new) < most and self._seen:
            asked = [self._seen.popleft() for _ in range(min(ASKED_AT_ONCE, len(self._seen)))]
            has_run = known([each.id for each in asked])
            self._done.update(has_run)
            self._new.extend(each for each in asked if each.id not in has_run)
        return [self._new[number] for number in range(min(most, len(self._new)))]

    def done(self, count: int) -> None:
        """The first *count* have their runs."""
        self._done.update(self._new.popleft().id for _ in range(count))

    def doubt(self) -> None:
        """Ask again: another scheduler was here."""
        self._seen.extendleft(reversed(self._new))
        self._new.clear()
