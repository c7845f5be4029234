"""What the monitor finds out itself, beside the metrics of the other processes."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from datetime import datetime
from pathlib import Path

import psutil
from cryptography import x509

from pipelines.monitor.programs import read_programs
from pipelines.states import State
from pipelines.store.database import Store
from pipelines.store.pages.measures import OVERLAP, Measures, read_ended, read_measures
from workbench.background import Background
from workbench.observability import metrics
from workbench.runtime.state import State as ComponentState
from workbench.runtime.state import read_status
from workbench.security.audit import MEANINGS, Action, AuditLog, Outcome
from workbench.security.audit.event import Event
from workbench.security.audit.proof.checkpointer import LAST_BYTES, Checkpointer
from workbench.security.audit.proof.checkpoints import Checkpoint
from workbench.security.audit.reading import Search, follow_events
from workbench.settings import Settings
from workbench.warehouse.backup.status import read_status as read_backup_status
from workbench.warehouse.backup.status import read_waiting_since

logger = logging.getLogger(__name__)

COMPONENT_GAUGES = (
    metrics.COMPONENT_RUNNING,
    metrics.COMPONENT_READY,
    metrics.COMPONENT_MEMORY,
    metrics.COMPONENT_RESTARTS,
)
OTHER = "other"
MOST_SEEN = 20_000
READ_AGAIN = 60  #: times that the same place of the audit log is tried
MOST_PIPELINES = 300  #: that have series of their own


class Machine:
    """The disk, the memory, components of `workbench up`, certificates, checkpoints of the audit log, and backups."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._expiries: dict[str, float] = {}  # of certificates

    def look(self) -> None:
        """Set the metrics to what is so now. What cannot be read keeps its last value, and the log says so."""
        for look in (self._resources, self._components, self._certificates, self._checkpoint, self._backups):
            try:
                look()
            except (OSError, ValueError, psutil.Error) as error:
                logger.warning("%s cannot be measured: %s", look.__name__.strip("_"), error)

    def _resources(self) -> None:
        disk, memory = shutil.disk_usage(self._settings.home), psutil.virtual_memory()
        # What is kept for root is not free for us: as `df` counts.
        metrics.DISK_BYTES.set(disk.free)
        metrics.DISK_RATIO.set(disk.free / ((disk.used + disk.free) or 1))
        metrics.MEMORY_RATIO.set(memory.available / memory.total)
        metrics.LOAD.set(os.getloadavg()[0] / (os.cpu_count() or 1))

    def _components(self) -> None:
        status = read_status(self._settings.home)
        found = status.components
        for gauge in COMPONENT_GAUGES:
            gauge.clear()
        for each in found:
            runs = each.state in {ComponentState.RUNNING, ComponentState.EXTERNAL}
            metrics.COMPONENT_RUNNING.labels(each.name).set(runs)
            metrics.COMPONENT_READY.labels(each.name).set(each.ready)
            metrics.COMPONENT_RESTARTS.labels(each.name).set(each.restarts)
            if each.memory_bytes is not None:
                metrics.COMPONENT_MEMORY.labels(each.name).set(each.memory_bytes)

        for kind, programs in (read_programs(status.pid) if status.pid else {}).items():
            metrics.PROGRAMS.labels(kind).set(programs.count)
            metrics.PROGRAMS_MEMORY.labels(kind).set(programs.memory_bytes)

    def _certificates(self) -> None:
        keys, hub = self._settings.home / "keys", self._settings.hub
        files = {f"{name}-{file.stem}": file for name in ("hub", "kafka") for file in (keys / name).glob("*.pem")}
        if hub.tls_certificate_file is not None:
            files["hub"] = hub.tls_certificate_file
        found = {name: _expiry(file, self._expiries.get(name)) for name, file in files.items()}
        self._expiries = {name: at for name, at in found.items() if at is not None}
        metrics.CERTIFICATE_EXPIRY.clear()
        for name, at in self._expiries.items():
            metrics.CERTIFICATE_EXPIRY.labels(name).set(at)

    def _checkpoint(self) -> None:
        path = Checkpointer.of(self._settings.home).path
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LAST_BYTES))
            lines = file.read().splitlines(keepends=True)
        last = Checkpoint.of_line(lines[-1]) if lines else None
        if last is not None:
            metrics.AUDIT_CHECKPOINT.set(last.time / 1000)

    def _backups(self) -> None:
        home, gauges = self._settings.home, metrics.BACKUPS
        found = read_backup_status(home) if self._settings.backup.folder else None
        if found is None:
            for gauge in gauges:
                gauge.clear()
            return
        waiting, name = read_waiting_since(home), (home / "backup" / "id").read_text(encoding="utf-8").strip()
        lag = 0 if waiting is None else max(0.0, time.time() - waiting)
        values = (found.covered_until, found.size_bytes, found.seconds, not found.problem, lag)
        for gauge, value in zip(gauges, values, strict=True):
            gauge.labels(name).set(value)


def _expiry(certificate: Path, before: float | None) -> float | None:
    """When a certificate ends, in seconds since 1970; as *before*, when it cannot be read."""
    try:
        first, *_ = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError) as error:
        logger.warning("the certificate %s cannot be read: %s", certificate, error)
        return before
    return first.not_valid_after_utc.timestamp()


class Pipelines:
    """Runs, the queue and the outbox.

    Args:
        jobs: the folder of definitions. A pipeline is gone when it has neither a file there nor a schedule in the
            store, as those have whose files are elsewhere: nobody is told how long ago it has succeeded.
    """

    def __init__(self, jobs: Path) -> None:
        self._jobs = jobs
        self._seen: dict[int, datetime] = {}
        self._since: datetime | None = None
        self._files: set[str] = set()  # names of definitions, as they could be read last
        self._shown: set[str] = set()  # whose last success is among the metrics

    def look(self, store: Store) -> None:
        """Set the metrics to what the store says.

        Raises:
            StoreError: when it does not answer or refuses.
        """
        with store.transaction() as connection:
            ended, now = read_ended(connection, self._since)
            measures = read_measures(connection, MOST_PIPELINES)
        self._set(measures)
        # By the database's clock, of which ours knows nothing; it may have been set.
        is_first, self._since = self._since is None, now
        for each in ended:
            # Those of before the monitor was started are not news.
            if not is_first and self._seen.get(each.id) != each.at:
                name = each.pipeline if each.pipeline in measures.pipelines else OTHER
                metrics.RUNS_ENDED.labels(name, each.state).inc()
            self._seen[each.id] = each.at  # a run that is repaired ends again
        self._forget(now - 2 * OVERLAP)

    def _forget(self, before: datetime) -> None:
        """Of more than so many the oldest ones, but for those that the next look may read again."""
        for old in list(self._seen)[:-MOST_SEEN]:
            if self._seen[old] < before:
                del self._seen[old]

    def _set(self, measures: Measures) -> None:
        metrics.QUEUE_STEPS.set(measures.waiting)
        metrics.QUEUE_RUNNING.set(measures.running)
        metrics.QUEUE_SECONDS.set(measures.oldest_seconds)
        metrics.OUTBOX_MESSAGES.set(measures.undelivered)
        there = self._read_files() | measures.scheduled
        before, self._shown = self._shown, there & set(measures.succeeded)
        for name in self._shown:
            metrics.RUN_SUCCESS.labels(name).set(measures.succeeded[name])
        for name in before - self._shown:
            metrics.RUN_SUCCESS.remove(name)
        for name in measures.pipelines:
            for state in State:
                if state.is_end:
                    metrics.RUNS_ENDED.labels(name, state)  # of a counter that begins at 1, nobody sees that it grew

    def _read_files(self) -> set[str]:
        try:
            self._files = {each.stem for each in self._jobs.iterdir() if each.suffix == ".yaml"}
        except FileNotFoundError:
            self._files = set()
        except OSError as error:
            logger.warning("definitions cannot be listed; they count as before: %s", error)
        return self._files


def counting_security_events(home: Path) -> Background:
    """Count what is written into the audit log while the context is open, in a thread."""
    for action in Action:
        for outcome in ("", Outcome.FAILED, Outcome.REFUSED):  # the usual one, and those that alerts count
            _count(Event.of(action, actor="", resource="", outcome=outcome), by=0)
    return Background("security-events", lambda stopping: _follow(home, stopping), end_seconds=2.0)


class _Stopped(Exception):
    """The process ends."""


def _follow(home: Path, stopping: threading.Event) -> None:
    def wait(seconds: float) -> None:
        if stopping.wait(seconds):
            raise _Stopped

    failures = 0

    def failed(error: OSError) -> None:
        nonlocal failures
        failures += 1
        if failures == 1:
            logger.warning("the audit log cannot be followed: %s", error)
        elif failures > READ_AGAIN:
            # A file that stays unreadable keeps what is written after it from being counted: begin at the end.
            raise error
        wait(1.0)

    while not stopping.is_set():
        failures = 0
        try:
            for event in follow_events(AuditLog.of(home).path, Search(), wait=wait, failed=failed):
                failures = 0
                _count(event)
        except (OSError, ValueError) as error:
            logger.warning("the audit log cannot be followed: %s", error)
            stopping.wait(1.0)
        except _Stopped:
            return


def _count(event: Event, by: int = 1) -> None:
    action = event.action if event.action in MEANINGS else OTHER
    outcome = event.outcome if event.outcome in list(Outcome) else OTHER
    metrics.SECURITY_EVENTS.labels(action, outcome).inc(by)
