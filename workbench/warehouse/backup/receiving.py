"""Receives WAL as the warehouse writes it, and archives each segment: what `workbench up` keeps running.

`pg_receivewal` streams from a replication slot, so the server keeps what was not received, commits wait for
nothing, and no command of an archive runs inside the server. A segment is on the disk here before the slot
moves on. The server lets go of a slot that lacks more than max_slot_wal_keep_size, and somebody may drop it:
then a new full backup begins a new chain.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg

from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder
from workbench.warehouse.backup.repository import Repository
from workbench.warehouse.backup.server import SLOT, Server
from workbench.warehouse.backup.subject_keys import refresh_subject_keys
from workbench.warehouse.backup.wal import HISTORY, Segment

RESTART_SECONDS = 2.0
# 1 GB that could not be archived: the rest waits in the server, which has a bound of its own.
SPOOL_SEGMENTS = 64
BATCH_SEGMENTS = 8  #: archived by one look, so that who looks is seen to live


@dataclass(frozen=True, kw_only=True)
class Received:
    """What one look has found."""

    archived: int  #: segments that were archived now
    waiting: int  #: segments that are received and not archived yet
    is_broken: bool  #: whether WAL is missing before what comes from now on: only a new full backup helps


def whole_segments(spool: Path) -> list[Path]:
    """What is received and waits to be archived, in order."""
    names = sorted(path.name for path in spool.glob("[0-9A-F]*"))
    return [spool / name for name in names if Segment.parse(name) or HISTORY.fullmatch(name)]


def ensure_slot(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Have a slot that keeps WAL from now on, if there is none or the server has let go of it; tells whether it was made."""
    found = connection.execute("SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", [SLOT]).fetchone()
    if found is not None and found[0] != "lost":
        return False
    if found is not None:
        connection.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])
    connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    return True


class Receiver:
    """The receiver of one warehouse. A context manager: the program runs while it is entered, from `look` on."""

    def __init__(self, server: Server, spool: Path) -> None:
        self._server = server
        self._spool = spool  #: received segments in clear, beside the data that they are of
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._told: Segment | None = None

    def __enter__(self) -> Self:
        private_folder(self._spool)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def look(self, keys: Keys, repository: Repository) -> Received:
        """Archive what has come, and have the receiver run. Call it every few seconds.

        Raises:
            BackupError: when the server does not answer, or the archive has another content under a name.
            EncryptionError, KeysetError, OSError: when the archive cannot be written; what was received stays.
        """
        try:
            archived = self._archive(keys, repository)
        finally:
            waiting = len(self._whole())
            if waiting >= SPOOL_SEGMENTS:
                self._stop()
        is_broken = False
        if waiting < SPOOL_SEGMENTS and not self._is_running and time.monotonic() - self._started > RESTART_SECONDS:
            is_broken, is_empty = self._ensure_slot(repository)
            if is_empty:
                self._started = time.monotonic()
                self._process = self._server.start(
                    "pg_receivewal", f"--directory={self._spool}", f"--slot={SLOT}", "--no-loop", "--status-interval=2"
                )
        return Received(archived=archived, waiting=waiting, is_broken=is_broken)

    @property
    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _archive(self, keys: Keys, repository: Repository) -> int:
        whole = self._whole()[:BATCH_SEGMENTS]
        if whole:
            repository.refresh_keyset(keys)
            # Before the WAL that has what they encrypt.
            refresh_subject_keys(repository, keys)
        for path in whole:
            repository.wal.add(keys, path)
            path.unlink()
        return len(whole)

    def _whole(self) -> list[Path]:
        return whole_segments(self._spool)

    def _ensure_slot(self, repository: Repository) -> tuple[bool, bool]:
        """Have the slot there and free; tells whether WAL before it is lost, and whether the receiver can begin.

        The receiver goes on after the last segment that it finds. When WAL after that is gone, it would ask for it
        for ever: so it begins in an empty folder, at the slot, once all before is archived.
        """
        with self._server.connect() as connection:
            # A receiver whose keeper was killed; it ends when its connection does.
            connection.execute(
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
                " WHERE slot_name = %s AND active_pid IS NOT NULL",
                [SLOT],
            )
            is_new = ensure_slot(connection)
            row = connection.execute(
                "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = %s", [SLOT]
            ).fetchone()
        assert row is not None
        begin = Segment.at(1, str(row[0]))
        whole = self._whole()
        found = [each for path in whole if (each := Segment.parse(path.name))] or repository.wal.segments()[-1:]
        is_cut = found[-1].number + 1 < begin.number if found else is_new
        if not is_cut:
            return False, True
        for path in self._spool.glob("*.partial"):
            path.unlink()
        is_news, self._told = self._told != begin, begin
        return is_news, not whole

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
