"""Restores a workbench into a new home: files, then PostgreSQL's recovery up to a moment, then a rename.

All of it happens in a folder beside the home. The home appears by that rename, when everything is done: a
restore that was killed has left no home, and the next one begins anew.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from workbench.embedded.drop_privileges import as_ordinary_user
from workbench.embedded.postgres import SUPERUSER, PostgresServer, programs
from workbench.errors import BackupError
from workbench.runtime.ports import LOOPBACK, any_free
from workbench.runtime.process import GuardedProcess, holding, wait_for_lock
from workbench.security.audit import Action
from workbench.security.audit.commands import recording
from workbench.security.secrets import ensure_token, private_folder, sync_folder, sync_tree
from workbench.warehouse.backup.restoring import Chosen, unpack, unpack_wal
from workbench.warehouse.backup.server import Server
from workbench.warehouse.backup.wal import first_gap

RECOVERY_SECONDS = 3600.0
POLL_SECONDS = 0.1
LEFT_SECONDS = 130.0
WAL = "wal.restored"  #: beside the data, while it is needed


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What was restored."""

    backup: str
    segments: int
    last_transaction: datetime | None  #: when the last one that was replayed was committed
    seconds: float


def server_of(postgres: PostgresServer) -> Server:
    """How backups reach the embedded warehouse."""
    password = ensure_token(postgres.home / "keys" / "warehouse-superuser-password")
    return Server(programs=programs(), host=LOOPBACK, port=postgres.port, user=SUPERUSER, password=password)


def check_target(home: Path) -> None:
    """Make sure that nothing is at *home*, or an empty folder.

    Raises:
        BackupError: when something is: it is never written over.
    """
    if home.is_symlink() or (home.exists() and (not home.is_dir() or any(home.iterdir()))):
        raise BackupError(f"{home} is not empty", remedy="Name a folder that is not there. Nothing is written over.")


def staging(home: Path) -> Path:
    """The folder beside *home* in which it is restored."""
    return home.with_name(f".{home.name}.restoring")


@contextlib.contextmanager
def staged(home: Path) -> Iterator[Path]:
    """Make the folder in which *home* is restored; what an earlier restore has left is removed, and what this one leaves.

    Raises:
        BackupError: when *home* is not empty, or another restore into it runs.
    """
    check_target(home)
    home.parent.mkdir(parents=True, exist_ok=True)
    place = staging(home)
    lock = place.with_name(f"{place.name}.lock")
    with holding(lock, BackupError(f"another restore into {home} runs", remedy="Wait until it is done.")):
        # A server that outlived the restore which had started it ends by itself.
        wait_for_lock(place / "run" / "postgres.lock", LEFT_SECONDS)
        try:
            _remove(place)
            yield private_folder(place)
        finally:
            _remove(place)
            lock.unlink(missing_ok=True)


def _remove(place: Path) -> None:
    for path in (place, place.with_name(f"{place.name}.tree")):
        if path.exists():
            shutil.rmtree(path)


def restore(chosen: Chosen, home: Path, at: datetime | None) -> Restored:
    """Restore into *home*; `staged` has made the folder beside it, which has the keys by now.

    Args:
        chosen: the backup.
        home: is not there, or is empty.
        at: the moment; None replays all there is.

    Raises:
        BackupError, EncryptionError: when the backup or WAL is damaged, or WAL does not reach that moment.
        ComponentError: when PostgreSQL cannot be started.
        OSError: when a file cannot be written.
    """
    started = time.monotonic()
    place = staging(home)
    missing = first_gap(chosen.repository.wal.segments(), chosen.backup.stop)
    if at is None and missing:
        raise BackupError(
            f"{missing.name} of WAL is missing: what was written after it cannot be restored from {chosen.backup.name}",
            remedy="Name with --at a moment before that, or with --backup a later backup.",
        )
    unpack(chosen, place, home, programs())
    segments = unpack_wal(chosen, place / "postgres" / WAL)
    last = _recover(chosen, place, at)
    shutil.rmtree(place / "postgres" / WAL)
    with recording(place, Action.BACKUP_RESTORED, str(home)) as details:
        details.update(backup=chosen.backup.name, segments=segments, at=at.isoformat() if at else "end")
    check_target(home)
    appear(place, home)
    seconds = time.monotonic() - started
    return Restored(backup=chosen.backup.name, segments=segments, last_transaction=last, seconds=seconds)


def appear(place: Path, home: Path) -> None:
    """Make *place* the home: all that is in it is on the disk before the name is, whenever the power goes."""
    sync_tree(place)
    place.replace(home)
    sync_folder(home.parent)


def _recover(chosen: Chosen, place: Path, at: datetime | None) -> datetime | None:
    """Start PostgreSQL on the restored data, wait until it has replayed, and stop it."""
    postgres = PostgresServer(home=place, port=any_free(), database=chosen.backup.database, user=chosen.backup.user)
    runner = as_ordinary_user(postgres.folder, programs())
    if runner.account:
        subprocess.run(
            ["chown", "-R", f"{runner.account.pw_uid}:{runner.account.pw_gid}", str(postgres.folder)], check=True
        )
    runner.write(postgres.data / "recovery.signal", "")
    launch = postgres.prepare()
    source = shlex.quote(runner.path(postgres.folder / WAL).replace("%", "%%"))
    options = {
        "restore_command": f"cp {source}/%f '%p'",
        "recovery_target_action": "promote",
        "recovery_target_timeline": "latest",
        **({"recovery_target_time": at.isoformat()} if at else {}),
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    log = place / "logs" / "recovery.log"
    process = GuardedProcess(replace(launch, argv=(*launch.argv, *arguments), log=log, stop_seconds=120.0))
    process.start()
    try:
        return _wait(process, postgres, at)
    finally:
        process.stop()


def _wait(process: GuardedProcess, postgres: PostgresServer, at: datetime | None) -> datetime | None:
    """Wait for the end of recovery; returns when the last transaction that was replayed was committed."""
    server = server_of(postgres)
    deadline = time.monotonic() + RECOVERY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _failed(process, at)
        with contextlib.suppress(BackupError), server.connect() as connection:
            row = connection.execute("SELECT pg_is_in_recovery(), pg_last_xact_replay_timestamp()").fetchone()
            assert row is not None
            if not row[0]:
                connection.execute("CHECKPOINT")
                return row[1]  # type: ignore[return-value]
        time.sleep(POLL_SECONDS)
    raise BackupError(f"PostgreSQL had not recovered after {RECOVERY_SECONDS:.0f} s", remedy="Restore a later backup.")


def _failed(process: GuardedProcess, at: datetime | None) -> BackupError:
    tail = process.log_tail()
    if at is not None and "recovery ended before configured recovery target was reached" in tail:
        return BackupError(
            f"no transaction after {at.isoformat()} is in the backups: whether all until then are there cannot be known",
            remedy="Leave out --at to restore all there is, or name an earlier moment.",
        )
    return BackupError(
        f"PostgreSQL could not recover:\n{tail}", remedy="`workbench backup verify` names what is damaged."
    )
