"""The process that `workbench up` runs for backups: it receives WAL all the time, and makes a full backup now and then.

A component and no pipeline: receiving has to run all the time, needs the superuser's password and the root
key, which steps of pipelines never have, and the store of pipelines is in the warehouse that is backed up.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from workbench.embedded.postgres import PostgresServer
from workbench.embedded.recovery import server_of
from workbench.errors import BackupError, WorkbenchError
from workbench.runtime.process import Launch
from workbench.security.audit import Action
from workbench.security.audit.commands import recording
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder
from workbench.settings import Settings
from workbench.warehouse.backup import retention
from workbench.warehouse.backup.parts import Source, create
from workbench.warehouse.backup.receiving import Receiver
from workbench.warehouse.backup.repository import Backup, Repository, made_at

WAREHOUSE_USER = "workbench"
LOOK_SECONDS = 2.0
ALIVE_SECONDS = 60.0
RETRY_SECONDS = 300.0  #: after a backup that failed


@dataclass(frozen=True, kw_only=True)
class BackupKeeper:
    """The component."""

    home: Path
    folder: Path  #: of all backups
    environment: Mapping[str, str] = field(repr=False)

    name = "backup"
    start_seconds = 60.0

    @property
    def address(self) -> str:
        """Where backups go."""
        return str(self.folder)

    @property
    def lock(self) -> Path:
        """Locked while it runs."""
        return self.home / "run" / "backup.lock"

    def prepare(self) -> Launch:
        """It runs `workbench backup keep`."""
        alive_file(self.home).unlink(missing_ok=True)
        return Launch(
            argv=(sys.executable, "-m", "workbench.cli", "backup", "keep"),
            environment={**self.environment, "WORKBENCH_HOME": str(self.home)},
            log=self.home / "logs" / "backup.log",
            lock=self.lock,
            folder=self.home,
        )

    def is_healthy(self) -> bool:
        """Whether it has looked for WAL in the last minute."""
        try:
            return time.time() - alive_file(self.home).stat().st_mtime < ALIVE_SECONDS
        except OSError:
            return False

    def complete(self) -> None:
        """Nothing needs it."""


@dataclass(frozen=True, kw_only=True)
class BackedUp:
    """The present workbench, as backups see it."""

    keys: Keys
    repository: Repository
    source: Source

    @classmethod
    def of(cls, settings: Settings) -> BackedUp:
        """That of the settings, whose warehouse runs.

        Raises:
            BackupError: when no folder is named, or the warehouse is not the embedded one.
        """
        if settings.backup.folder is None:
            raise BackupError("WORKBENCH_BACKUP_FOLDER is not set", remedy="Set it to a folder, best on another disk.")
        embedded = PostgresServer(
            home=settings.home,
            port=settings.warehouse.port,
            database=settings.warehouse.database,
            user=settings.warehouse.user or WAREHOUSE_USER,
        )
        if not embedded.data.exists():
            raise BackupError(
                f"there is no warehouse in {embedded.folder}: only the embedded PostgreSQL is backed up",
                remedy="Start it with `workbench up`; for another one, use what its administrators use.",
            )
        include = tuple(Path(each) for each in settings.backup.include)
        check_apart(settings.backup.folder, (settings.home, *include))
        keys = Keys.of(settings.home, settings.keys)
        keys.ensure()
        source = Source(
            home=settings.home,
            server=server_of(embedded),
            database=embedded.database,
            user=embedded.user,
            include=include,
            root=settings.keys.file(settings.home),
        )
        return cls(keys=keys, repository=Repository.of(settings.home, settings.backup.folder), source=source)

    def create(self) -> Backup:
        """Make a full backup, with its event. Raises as `parts.create`."""
        with recording(self.source.home, Action.BACKUP_CREATED, str(self.repository.folder)) as details:
            backup = create(self.keys, self.repository, self.source)
            details.update(backup=backup.name, bytes=backup.size_bytes)
        return backup

    def let_go(self, keep_days: float) -> list[Backup]:
        """Remove what is older than has to be kept, with its event. Raises as `retention.apply`."""
        removed = retention.apply(self.keys, self.repository, now=datetime.now(UTC), keep_days=keep_days)
        if removed:
            with recording(self.source.home, Action.BACKUP_REMOVED, str(self.repository.folder)) as details:
                details["backups"] = ",".join(each.name for each in removed)
        return removed


def check_apart(folder: Path, sources: Iterable[Path]) -> None:
    """Make sure that backups do not hold themselves.

    Raises:
        BackupError: when *folder* is inside of one of *sources*.
    """
    for source in sources:
        if folder.resolve().is_relative_to(source.resolve()):
            raise BackupError(
                f"WORKBENCH_BACKUP_FOLDER {folder} is inside of {source}, which is backed up",
                remedy="Name a folder elsewhere, best on another disk.",
            )


def alive_file(home: Path) -> Path:
    """Written each time the keeper has looked."""
    return home / "run" / "backup.alive"


def keep(settings: Settings, stopping: threading.Event, tell: Callable[[str], None]) -> None:
    """Receive WAL and make backups until *stopping* is set. What fails is told and tried again.

    Raises:
        BackupError: as `BackedUp.of`.
    """
    backed_up = BackedUp.of(settings)
    private_folder(settings.home / "run")
    maker = _Maker(backed_up, settings, tell)
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
            # Also when it fails: to be started again would not help.
            alive_file(settings.home).touch(mode=0o600)
            stopping.wait(0 if waiting else LOOK_SECONDS)


class _Maker:
    """Makes full backups in a thread of its own, so that WAL is archived meanwhile.

    The thread ends with the process; what it was making is no backup then.
    """

    def __init__(self, backed_up: BackedUp, settings: Settings, tell: Callable[[str], None]) -> None:
        self._backed_up = backed_up
        self._settings = settings
        self._tell = tell
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        self._is_wanted = False

    def make_when_due(self, *, at_once: bool) -> None:
        """Begin a backup when the last one is old, or WAL since then is not whole."""
        self._is_wanted |= at_once
        if self._thread is not None and self._thread.is_alive():
            return
        if time.monotonic() >= self._not_before and (self._is_wanted or self._is_due()):
            self._thread = threading.Thread(target=self._make, name="backup", daemon=True)
            self._thread.start()

    def _is_due(self) -> bool:
        backups = self._backed_up.repository.names()
        if not backups:
            return True
        return (datetime.now(UTC) - made_at(backups[-1])).total_seconds() > self._settings.backup.every_hours * 3600

    def _make(self) -> None:
        try:
            self._is_wanted = False
            backup = self._backed_up.create()
            self._tell(f"made the backup {backup.name}, {backup.size_bytes / 1e6:,.0f} MB")
            self._backed_up.let_go(self._settings.backup.keep_days)
        except (WorkbenchError, OSError) as error:
            self._is_wanted = True
            self._not_before = time.monotonic() + RETRY_SECONDS
            self._tell(f"no backup was made: {error}")
