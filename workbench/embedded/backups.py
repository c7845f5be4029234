"""The component of `workbench up` for backups, and what is backed up of the present workbench.

A component and no pipeline: receiving has to run all the time, needs the superuser's password and the root
key, which steps of pipelines never have, and the store of pipelines is in the warehouse that is backed up.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
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
from workbench.settings import Settings
from workbench.warehouse.backup import retention, status
from workbench.warehouse.backup.parts import Source, create
from workbench.warehouse.backup.repository import Backup, Repository
from workbench.warehouse.backup.verification import damaged
from workbench.warehouse.backup.wal import first_gap

WAREHOUSE_USER = "workbench"
ALIVE_SECONDS = 60.0


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
            argv=(sys.executable, "-P", "-m", "workbench.cli", "backup", "keep"),
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

    def create(self, *, is_incremental: bool = False) -> Backup:
        """Make a backup and read it back, with its event and its result in `status`.

        Args:
            is_incremental: of the warehouse only what has changed since the newest full one is taken.

        Raises:
            BackupError: when it reads back damaged, or there is no full one to build on. Else as `parts.create`.
        """
        started = time.monotonic()
        try:
            with recording(self.source.home, Action.BACKUP_CREATED, str(self.repository.folder)) as details:
                backup = create(
                    self.keys, self.repository, self.source, self._newest_full() if is_incremental else None
                )
                details.update(backup=backup.name, bytes=backup.size_bytes, needs=backup.needs or "")
                self._check(backup)
        except (WorkbenchError, OSError) as error:
            status.note_failed(self.source.home, str(error))
            raise
        status.note_verified(self.source.home, backup, time.monotonic() - started)
        return backup

    def gap(self, backups: list[Backup]) -> str | None:
        """What is missing of WAL after the newest of all backups, so that only another one leads on; None for nothing."""
        missing = first_gap(self.repository.wal.segments(), backups[-1].stop) if backups else None
        if missing is None:
            return None
        return f"{missing.name} of WAL is missing: no moment between it and the next backup can be restored"

    def _check(self, backup: Backup) -> None:
        """Read it back; one that is damaged is removed, so that nobody relies on it."""
        if problems := list(damaged(self.keys, self.repository, backup)):
            with self.repository.writing(self.keys):
                self.repository.remove(self.keys, backup)
            raise BackupError(
                f"the backup {backup.name} was removed, for it reads back damaged: {'; '.join(problems)}",
                remedy="Look at the disk of the backups, and make another one.",
            )

    def _newest_full(self) -> Backup:
        full = [each for each in self.repository.backups(self.keys) if each.needs is None]
        if not full:
            raise BackupError(
                f"there is no full backup in {self.repository.folder} that an incremental one can be built on",
                remedy="Make one: `workbench backup create`.",
            )
        return full[-1]

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
