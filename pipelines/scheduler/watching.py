"""What has happened that starts runs: files that are new or changed, and ends of other pipelines' runs.

An event has an id that is the same whoever sees it and whenever, so that it starts one run. A watch
looks back from where it has come by `OVERLAP`: what is written first is not always seen first.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator
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


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One event."""

    id: str  #: of the store
    event: str  #: `${trigger.event}`
    instant: datetime  #: `${run.instant}`
    seen: datetime  #: the cursor that the watch may come to with it


def watch_files(trigger: FileTrigger, root: Path, cursor: datetime) -> Iterator[Happening]:
    """Files that fit and have changed since; a path is relative to *root*.

    What counts is when a file came to its place or was last written, so one that is moved there is new.
    """
    since = (cursor - OVERLAP).timestamp()
    # Path.glob takes no absolute pattern.
    for name in sorted(glob.glob(str(root / trigger.path), recursive=True)):  # noqa: PTH207
        path = Path(name)
        try:
            found = path.stat()
        except OSError:
            continue
        changed = max(found.st_mtime, found.st_ctime)
        if not path.is_file() or changed < since or time.time() - changed < SETTLED_SECONDS:
            continue
        shown = str(path.relative_to(root)) if path.is_relative_to(root) else name
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
