"""Which backups and segments may go: what a moment within the time to keep needs stays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from workbench.security.keyset.opening import Keys
from workbench.warehouse.backup.repository import Backup, Repository
from workbench.warehouse.backup.wal import Segment


def superfluous(
    backups: Sequence[Backup], segments: Sequence[Segment], oldest: datetime
) -> tuple[list[Backup], list[Segment]]:
    """What no restore to *oldest* or later needs.

    The newest backup always stays, and so does the newest one that is older than *oldest*: moments between
    it and the next are reached from it. So does what an incremental one that stays is built on. Without a
    backup nothing may go.
    """
    if not backups:
        return [], []
    ordered = sorted(backups, key=lambda backup: backup.finished)
    before = [each for each in ordered if each.finished <= oldest]
    kept = [each for each in ordered if each not in before[:-1]]
    needed = {each.name for each in kept}
    # Each is built on one that was made before it.
    for each in reversed(ordered):
        if each.name in needed and each.needs is not None:
            needed.add(each.needs)
    kept = [each for each in ordered if each.name in needed]
    removed = [each for each in ordered if each.name not in needed]
    # By their number alone: a later timeline begins where an earlier one ended.
    first = min(each.start.number for each in kept)
    return removed, [each for each in segments if each.number < first]


def apply(keys: Keys, repository: Repository, *, now: datetime, keep_days: float) -> list[Backup]:
    """Remove what need not be kept; returns the backups that were removed.

    Raises:
        BackupError: when a backup is being made.
        KeysetError: when the keyset cannot be used.
    """
    with repository.writing(keys):
        backups = repository.backups(keys)
        removed, segments = superfluous(backups, repository.wal.segments(), now - timedelta(days=keep_days))
        # The last first: when this is killed, none is left without what it is built on.
        for backup in reversed(removed):
            repository.remove(keys, backup)
        for segment in segments:
            repository.wal.remove(keys, segment)
    return removed
