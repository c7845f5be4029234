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
from pipelines.definition.rules import parse_duration
from pipelines.lineage.delivery import couriers
from pipelines.lineage.telling import Lineage, lost_by
from pipelines.processes.life import NO_STORE, Sign
from pipelines.processes.listening import Listener
from pipelines.processes.opening import opened_store
from pipelines.runner.folders import remove_attempt
from pipelines.scheduler.outside.observing import Outside
from pipelines.scheduler.scheduler import Scheduler
from pipelines.store.claims.reaping import reap
from pipelines.store.database import Store
from pipelines.store.records import LostAttempt, Message
from pipelines.store.retention import let_go
from pipelines.store.troubles import tell_late
from workbench.errors import AuditError, StoreUnavailable
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
LET_GO_SECONDS = 600.0  # between two looks at runs that are no longer kept
LATE_SECONDS = 5.0  # between two looks at what has not begun
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
    stopping = threading.Event()
    wake = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    outside = Outside(settings)
    with opened_store(settings, connections=CONNECTIONS, is_stopping=stopping.is_set) as store:
        scheduler = Scheduler(store, options.project, outside, partial(_audit, AuditLog.of(settings.home)))
        loop = _Loop(store, scheduler, settings.home, wake, lost_by(Lineage.wanted(settings)))
        sending = courier(store, Post(options.project.alerts, references_of(settings, os.environ), run_pages(settings)))
        signing = making_checkpoints(Checkpointer.of(settings.home, anchors_of(settings.audit)))
        with signing, Listener(store, loop.hear), couriers(store, settings.pipelines), sending, closing(outside):
            while not stopping.is_set():
                loop.turn()


def _audit(log: AuditLog, runs: Sequence[tuple[str, int]]) -> None:
    def event(pipeline: str, run: int) -> Event:
        return Event.of(Action.RUN_STARTED, actor="scheduler", resource=f"pipeline:{pipeline}", run=run)

    try:
        # Many are due at the same instant: all of them go to the disk at once.
        log.append(*(event(pipeline, run) for pipeline, run in runs))
    except AuditError as error:
        # The runs are in the store, with what made them. What is due does not wait for room on a disk.
        logger.error("%s", error)  # noqa: TRY400 - it says all


def let_go_of_old(store: Store, home: Path) -> int:
    """Let old runs go as their pipelines say, with their files; returns how many.

    Raises:
        StoreError: when the store does not answer or refuses.
    """
    count = 0
    while True:
        with store.transaction() as connection:
            gone, paths = let_go(connection)
        for each in paths:
            remove_attempt(home, Path(each))
        count += gone
        if not gone:
            return count


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
        self._synced = self._did_chores = self._told_late = self._let_go = float("-inf")
        self._sync_takes = 0.0

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
            if self._is_time(self._did_chores, CHORE_SECONDS):
                self._did_chores = time.monotonic()
                reap(self._store, messages=self._lost)
                self._scheduler.watch()
            if self._is_time(self._told_late, LATE_SECONDS):
                self._told_late = time.monotonic()
                with self._store.transaction() as connection:
                    tell_late(connection, parse_duration)
            if self._is_time(self._let_go, LET_GO_SECONDS):
                self._let_go = time.monotonic()
                let_go_of_old(self._store, self._home)
            self._sign.give()
            self._wake.wait(self._scheduler.seconds_until_next(SLEEP_SECONDS))
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
