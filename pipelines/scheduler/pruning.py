"""Runs that nobody keeps any more go: first their rows, then their files, and each of both is in the audit log."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipelines.processes.naming import is_here
from pipelines.runner.folders import is_there, remove_attempt, runs_folder
from pipelines.store.database import Store
from pipelines.store.retention import OldRun, due_removals, let_go, remove_later, removed
from workbench.errors import AuditError
from workbench.security.audit import Action, AuditLog, Event, Outcome

logger = logging.getLogger(__name__)

AT_ONCE = 100  # runs, and folders: schedules wait for no more than that


@dataclass(frozen=True)
class Pruned:
    """What one look has removed."""

    runs: tuple[OldRun, ...] = ()
    folders: int = 0  #: of attempts, with notebook, log and checkpoints
    has_more: bool = False


def prune(store: Store, home: Path, *, actor: str) -> Pruned:
    """Remove at most a hundred runs that their pipelines no longer keep, and at most as many folders of this machine.

    Whoever is killed meanwhile leaves nothing that the next one does not find. Folders on disks that are not here
    are left to whoever is there.

    Args:
        store: entered.
        home: below which the folders are.
        actor: for the audit log.

    Raises:
        StoreError: when the store does not answer or refuses.
    """
    log = AuditLog.of(home)
    with store.transaction() as connection:
        gone = let_go(connection, limit=AT_ONCE)
        if gone:
            _record(log, actor, Outcome.BEGUN, runs=_numbers(gone))
    folders, has_more = _remove_folders(store, home)
    if gone or folders:
        _record(log, actor, Outcome.SUCCESS, runs=_numbers(gone), folders=folders)
    return Pruned(gone, folders, has_more or len(gone) == AT_ONCE)


def _remove_folders(store: Store, home: Path) -> tuple[int, bool]:
    ours = list(islice(_ours(store, f"{runs_folder(home)}{os.sep}"), AT_ONCE + 1))
    now = ours[:AT_ONCE]
    done = {each for each in now if remove_attempt(home, Path(each))}
    if now:
        with store.transaction() as connection:
            removed(connection, done)
            remove_later(connection, set(now) - done)
    return len(done), len(ours) > AT_ONCE


def _ours(store: Store, below: str) -> Iterator[str]:
    """Paths that are due and here; behind any number of those that are elsewhere, or on machines that are gone."""
    after: str | None = ""
    while after is not None:
        with store.transaction() as connection:
            due = due_removals(connection, below, after=after)
        # Another machine may have a home of the same name, and the file: what is not there, and not ours, is not gone.
        yield from (each.path for each in due if is_here(each.worker) or is_there(Path(each.path).parent))
        after = due[-1].path if due else None


def _numbers(runs: Iterable[OldRun]) -> str:
    """Which ones, by pipeline: `daily 1 2 3, weekly 4`."""
    by_pipeline: dict[str, list[int]] = defaultdict(list)
    for each in runs:
        by_pipeline[each.pipeline].append(each.id)
    return ", ".join(f"{name} {' '.join(map(str, ids))}" for name, ids in sorted(by_pipeline.items()))


def _record(log: AuditLog, actor: str, outcome: Outcome, **details: object) -> None:
    try:
        log.append(Event.of(Action.RUNS_REMOVED, actor=actor, resource="pipelines", outcome=outcome, **details))
    except AuditError as error:
        # What makes room on a disk does not wait for room on it.
        logger.error("%s", error)  # noqa: TRY400 - it says all
