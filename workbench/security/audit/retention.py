"""What is removed of the log when it is old enough: whole segments, the oldest first, and never without a line that says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from pathlib import Path

from workbench.security.audit.actions import Action
from workbench.security.audit.log import RESOURCE, AuditLog
from workbench.security.audit.segments import read_tail_of_closed, segments, sync_folder


def removable(log: AuditLog, before: datetime) -> list[Path]:
    """The oldest closed segments whose last event was written before that time."""
    closed = [each for each in segments(log.path) if each != log.path]

    def is_old(path: Path) -> bool:
        with path.open("rb") as file:
            return read_tail_of_closed(file.fileno()).time < before.timestamp() * 1000

    return list(takewhile(is_old, closed))


def remove_segments(log: AuditLog, files: Sequence[Path], actor: str) -> int:
    """Remove what `removable` has found; returns the number of the last line that is gone.

    Raises:
        AuditError: when the log cannot be told; nothing is removed then.
    """
    with files[-1].open("rb") as file:
        tail = read_tail_of_closed(file.fileno())
    log.record(Action.AUDIT_REMOVED, actor=actor, resource=RESOURCE, last=tail.sequence, hash=tail.hash)
    for each in files:
        each.unlink()
    sync_folder(log.path.parent)
    return tail.sequence
