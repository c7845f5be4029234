"""What is removed of the log when it is old enough: whole segments, the oldest first, and never without a line that says so."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from workbench.security.audit.actions import Action
from workbench.security.audit.log import RESOURCE, AuditLog
from workbench.security.audit.proof.checkpointer import Checkpointer
from workbench.security.audit.proof.checkpoints import Checkpoint, read_checkpoints
from workbench.security.audit.reading import Search, search_segments
from workbench.security.audit.segments import read_tail_of_closed, segments
from workbench.security.secrets import sync_folder, write_private


def removable(log: AuditLog, before: datetime) -> list[Path]:
    """The oldest closed segments whose last event was written before that time."""
    closed = [each for each in segments(log.path) if each != log.path]

    def is_old(path: Path) -> bool:
        with path.open("rb") as file:
            return read_tail_of_closed(file.fileno()).time < before.timestamp() * 1000

    return list(takewhile(is_old, closed))


def remove_segments(checkpointer: Checkpointer, files: Sequence[Path], actor: str) -> int:
    """Remove what `removable` has found, and the checkpoints of it; returns the number of the last line that is gone.

    Raises:
        AuditError: when the log cannot be told; nothing is removed then.
    """
    with files[-1].open("rb") as file:
        tail = read_tail_of_closed(file.fileno())
    with checkpointer.alone():
        kept, number, previous = _later(checkpointer.path, tail.sequence)
        # Checkpoints of an anchor may be signed by keys whose hand-over goes now: it is said again.
        handed_over = search_segments(files, Search(action=Action.AUDIT_KEY_ROTATED))
        checkpointer.log.append(*(replace(each, id=uuid.uuid4().hex, time=datetime.now(UTC)) for each in handed_over))
        checkpointer.log.record(
            Action.AUDIT_REMOVED, actor=actor, resource=RESOURCE,
            last=tail.sequence, hash=tail.hash, checkpoint=number, checkpoint_hash=previous,
        )  # fmt: skip
        if number:
            write_private(checkpointer.path, b"".join(kept))
        for each in files:
            each.unlink()
        sync_folder(checkpointer.path.parent)
    return tail.sequence


def _later(path: Path, sequence: int) -> tuple[list[bytes], int, str]:
    """Lines of checkpoints that are of later lines, at least the last; the number and hash of what was before them."""
    lines = read_checkpoints(path)
    found = [(index, each) for index, line in enumerate(lines) if (each := Checkpoint.of_line(line))]
    if not found:
        return lines, 0, ""
    index, first = next(((index, each) for index, each in found if each.sequence > sequence), found[-1])
    return lines[index:], first.number - 1, first.previous
