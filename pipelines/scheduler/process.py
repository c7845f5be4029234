"""The scheduler as a process: started by `workbench up`, `workbench pipelines scheduler` or systemd, ended by a signal."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipelines.alerting.delivery import Post, courier
from pipelines.alerting.texts import run_pages
from pipelines.definition import Project
from pipelines.definition.rules import parse_seconds
from pipelines.lineage.delivery import couriers
from pipelines.lineage.telling import Lineage, lost_by
from pipelines.planning.run_as import RunAsRule
from pipelines.processes.leaving import leaving_in_time
from pipelines.processes.life import NO_STORE, Sign
from pipelines.processes.listening import Listener
from pipelines.processes.opening import opened_store
from pipelines.scheduler.outside.observing import Outside
from pipelines.scheduler.pruning import prune
from pipelines.scheduler.scheduler import Scheduler
from pipelines.store.claims.reaping import reap
from pipelines.store.database import Store
from pipelines.store.records import LostAttempt, Message
from pipelines.store.troubles import tell_too_long
from workbench.errors import AuditError, StoreUnavailable
from workbench.logs.context import bound
from workbench.security.audit import Action, AuditLog, Event
from workbench.security.audit.proof.anchors import anchors_of
from workbench.security.audit.proof.checkpointer import Checkpointer, making_checkpoints
from workbench.security.references import references_of
from workbench.settings import Settings

logger = logging.getLogger(__name__)

SIGN = "pipelines-scheduler"
CONNECTIONS = 4
SLEEP_SECONDS = 1.0  # at most, since hints may be missed
SYNC_SECONDS = 5.0  # between two looks at files and at what others have changed
LATEST_SYNC_SECONDS = 15.0  # when there is always something due
PRUNE_SECONDS = 600.0  # between two looks at runs that are no longer kept
LATE_SECONDS = 5.0  # between two looks at what has not begun or ended in time
TOLD_RUNS = 100  # made at once, of which each has a line
CHORE_SECONDS = 1.0  # between two looks at what nobody sees to, and at what has happened


@dataclass(frozen=True, kw_only=True)
class SchedulerOptions:
    """How a scheduler is run."""

    project: Project


def run_scheduler(settings: Settings, options: SchedulerOptions) -> None:
    """Make runs until SIGTERM or SIGINT. Several schedulers may do so on one store.

    Raises:
        SettingsError: when no PostgreSQL is configured.
        StoreError: when it refuses.
    """
    with leaving_in_time("scheduler") as begin_to_leave:
        _run(settings, options, begin_to_leave)


def _run(settings: Settings, options: SchedulerOptions, begin_to_leave: Callable[[], None]) -> None:
    stopping = threading.Event()
    wake = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        wake.set()
        begin_to_leave()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    outside = Outside(settings)
    with opened_store(settings, connections=CONNECTIONS, is_stopping=stopping.is_set) as store:
        tell = partial(_audit, AuditLog.of(settings.home))
        scheduler = Scheduler(store, options.project, outside, tell, RunAsRule.of(settings))
        loop = _Loop(store, scheduler, settings.home, wake, lost_by(Lineage.wanted(settings)))
        sending = courier(store, Post(options.project.alerts, references_of(settings, os.environ), run_pages(settings)))
        signing = making_checkpoints(Checkpointer.of(settings.home, anchors_of(settings.audit)))
        with signing, Listener(store, loop.hear), couriers(store, settings.pipelines), sending, closing(outside):
            while not stopping.is_set():
                loop.turn()


def _audit(log: AuditLog, runs: Sequence[tuple[str, int]]) -> None:
    def event(pipeline: str, run: int) -> Event:
        return Event.of(Action.RUN_STARTED, actor="scheduler", resource=f"pipeline:{pipeline}", run=run)

    _tell(runs)
    try:
        # Many are due at the same instant: all of them go to the disk at once.
        log.append(*(event(pipeline, run) for pipeline, run in runs))
    except AuditError as error:
        # The runs are in the store, with what made them. What is due does not wait for room on a disk.
        logger.error("%s", error)  # noqa: TRY400 - it says all


def _tell(runs: Sequence[tuple[str, int]]) -> None:
    if len(runs) > TOLD_RUNS:
        logger.info("%d runs are made, of %d to %d", len(runs), runs[0][1], runs[-1][1])
        return
    for pipeline, run in runs:
        with bound(run=run, pipeline=pipeline):
            logger.info("the run is made")


class _Loop:
    """What is done how often."""

    def __init__(
        self,
        store: Store,
        scheduler: Scheduler,
        home: Path,
        wake: threading.Event,
        lost: Callable[[LostAttempt], tuple[Message, ...]],
    ) -> None:
        self._store, self._scheduler, self._sign, self._wake = store, scheduler, Sign(home, SIGN), wake
        self._home, self._lost = home, lost
        self._synced = self._did_chores = self._told_late = self._pruned = float("-inf")
        self._sync_takes = 0.0
        self._is_pruning = False
        self._has_more = False  # has happened than the last look has dealt with

    def hear(self, hint: str) -> None:
        """A hint has come, in another thread."""
        if hint == "schedules":
            self._synced = float("-inf")
            self._wake.set()

    def turn(self) -> None:
        """Do what is to be done now, and sleep until the next thing is."""
        self._wake.clear()
        try:
            if self._is_time_to_sync:
                began = time.monotonic()
                self._scheduler.sync()
                self._synced = time.monotonic()
                self._sync_takes = self._synced - began
            self._scheduler.tick()
            if is_due := self._is_time(self._did_chores, CHORE_SECONDS):
                self._did_chores = time.monotonic()
                reap(self._store, messages=self._lost)
            if is_due or self._has_more:
                self._has_more = self._scheduler.watch()
            if self._is_time(self._told_late, LATE_SECONDS):
                self._told_late = time.monotonic()
                with self._store.transaction() as connection:
                    tell_too_long(connection, parse_seconds)
            if self._is_time(self._pruned, PRUNE_SECONDS) or self._is_pruning:
                self._pruned = time.monotonic()
                self._is_pruning = prune(self._store, self._home, actor="scheduler").has_more
            self._sign.give()
            self._wake.wait(
                0.0 if self._has_more or self._is_pruning else self._scheduler.seconds_until_next(SLEEP_SECONDS)
            )
        except StoreUnavailable as error:
            logger.warning("%s", error)
            self._sign.give(NO_STORE)
            self._wake.wait(SLEEP_SECONDS)

    @property
    def _is_time_to_sync(self) -> bool:
        if not self._is_time(self._synced, SYNC_SECONDS):
            return False
        # A look at ten thousand files takes half a second, in which no run is made: not just before one is due.
        is_quiet = self._scheduler.seconds_until_next(self._sync_takes) >= self._sync_takes
        return is_quiet or self._is_time(self._synced, LATEST_SYNC_SECONDS)

    @staticmethod
    def _is_time(last: float, seconds: float) -> bool:
        return time.monotonic() - last >= seconds
