"""What the component for backups does: it receives WAL all the time, and makes a backup when one is due."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

from workbench.embedded.backups import BackedUp, alive_file
from workbench.errors import BackupError, WorkbenchError
from workbench.sections import BackupSettings
from workbench.security.secrets import private_folder
from workbench.settings import Settings
from workbench.warehouse.backup import status
from workbench.warehouse.backup.receiving import Receiver
from workbench.warehouse.backup.repository import Backup, made_at
from workbench.warehouse.backup.wal import Segment

LOOK_SECONDS = 2.0
WATCH_SECONDS = 5.0  #: between two looks at what waits to be archived
DUE_SECONDS = 15.0  #: between two looks whether a backup is due
RETRY_SECONDS = 300.0  #: after a backup that failed


class Due(StrEnum):
    """Which backup is to be made."""

    FULL = "full"
    INCREMENTAL = "incremental"


def due(backups: list[Backup], newest: datetime | None, now: datetime, settings: BackupSettings) -> Due | None:
    """Which backup is due; None when none is.

    Args:
        backups: those that can be read, the oldest first.
        newest: when the last one was begun, also one that cannot be read.
        now: the present moment.
        settings: hours between them.
    """
    full = [each.begun for each in backups if each.needs is None]
    hours = settings.incremental_hours
    if newest is None or not full or _hours(now, full[-1]) > settings.every_hours:
        return Due.FULL
    return Due.INCREMENTAL if hours and _hours(now, newest) > hours else None


def _hours(now: datetime, then: datetime) -> float:
    return (now - then).total_seconds() / 3600


def keep(settings: Settings, stopping: threading.Event, tell: Callable[[str], None]) -> None:
    """Receive WAL and make backups until *stopping* is set. What fails is told and tried again.

    Raises:
        BackupError: as `BackedUp.of`.
    """
    backed_up = BackedUp.of(settings)
    private_folder(settings.home / "run")
    status.begin(settings.home)
    maker, watch = _Maker(backed_up, settings, tell), _Watch(backed_up)
    said = ""
    with Receiver(backed_up.source.server, settings.home / "backup" / "wal") as receiver:
        while not stopping.is_set():
            waiting = 0
            try:
                received = receiver.look(backed_up.keys, backed_up.repository)
                waiting = received.waiting
                maker.make_when_due(at_once=received.is_broken)
                said = ""
            except (WorkbenchError, OSError) as error:
                # Each reason once, not each time.
                if str(error) != said:
                    tell(f"WAL is not archived: {error}")
                said = str(error)
            # Above all when nothing is archived. A server that does not answer is told by the receiver.
            with contextlib.suppress(WorkbenchError, OSError):
                watch.look()
            # Also when it fails: to be started again would not help.
            alive_file(settings.home).touch(mode=0o600)
            stopping.wait(0 if waiting else LOOK_SECONDS)


class _Watch:
    """Notes since when WAL waits to be archived, for whoever watches."""

    def __init__(self, backed_up: BackedUp) -> None:
        self._backed_up = backed_up
        self._home = backed_up.source.home
        self._lag = status.ArchiveLag(status.read_waiting_since(self._home))
        self._not_before = 0.0

    def look(self) -> None:
        """Note it, when there was no look for some seconds. Raises `BackupError` when the server does not answer."""
        if time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + WATCH_SECONDS
        with self._backed_up.source.server.connect() as connection:
            row = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
        assert row is not None
        current = Segment.parse(str(row[0]))
        assert current is not None
        archived = self._backed_up.repository.wal.segments()
        status.note_waiting_since(self._home, self._lag.look(current, archived[-1] if archived else None, time.time()))


class _Maker:
    """Makes backups in a thread of its own, so that WAL is archived meanwhile.

    The thread ends with the process; what it was making is no backup then.
    """

    def __init__(self, backed_up: BackedUp, settings: Settings, tell: Callable[[str], None]) -> None:
        self._backed_up = backed_up
        self._settings = settings
        self._tell = tell
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        self._is_broken = False

    def make_when_due(self, *, at_once: bool) -> None:
        """Begin a backup when one is due, and a full one when WAL since the last one is not whole.

        Raises:
            EncryptionError, KeysetError: when the keyset cannot be used.
        """
        self._is_broken |= at_once
        if (self._thread is not None and self._thread.is_alive()) or time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + DUE_SECONDS
        which = self._due()
        if which is not None:
            self._thread = threading.Thread(target=self._make, args=(which,), name="backup", daemon=True)
            self._thread.start()

    def _due(self) -> Due | None:
        repository = self._backed_up.repository
        names, backups = repository.names(), repository.backups(self._backed_up.keys)
        # Also what was cut before this process began, or by somebody who has removed a segment.
        gap = self._backed_up.gap(backups)
        if backups and (gap or self._is_broken):
            self._tell(f"a full backup is made now: {gap or 'the server has not kept all WAL since the last one'}")
            return Due.FULL
        return due(backups, made_at(names[-1]) if names else None, datetime.now(UTC), self._settings.backup)

    def _make(self, which: Due) -> None:
        was_broken, self._is_broken = self._is_broken, False
        try:
            backup = self._create(which)
        except (WorkbenchError, OSError) as error:
            self._is_broken |= was_broken
            self._not_before = time.monotonic() + RETRY_SECONDS
            self._tell(f"no backup was made: {error}")
            return
        try:
            self._backed_up.let_go(self._settings.backup.keep_days)
        except (WorkbenchError, OSError) as error:
            self._tell(f"no backup was removed: {error}")
        kind = Due.FULL if backup.needs is None else Due.INCREMENTAL
        self._tell(f"made the {kind} backup {backup.name}, {backup.size_bytes / 1e6:,.0f} MB")

    def _create(self, which: Due) -> Backup:
        if which is Due.INCREMENTAL:
            try:
                return self._backed_up.create(is_incremental=True)
            except BackupError as error:
                self._tell(f"no incremental backup was made, a full one is made in its place: {error}")
        return self._backed_up.create()
