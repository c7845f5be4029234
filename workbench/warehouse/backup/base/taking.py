"""Takes a base backup: all pages, or those that have changed since a full one, whose manifest tells where that began.

Source: postgresql.org/docs/18, "Making an Incremental Backup".
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from workbench.errors import BackupError
from workbench.warehouse.backup.server import Server
from workbench.warehouse.backup.wal import Segment

POSITION = re.compile(r"write-ahead log (start|end) point: ([0-9A-F]+/[0-9A-F]+)(?: on timeline (\d+))?")
FIRST_VERSION = 170000  #: of PostgreSQL that takes incremental ones


def check_incremental(server: Server) -> None:
    """Make sure that the server keeps account of the pages that change.

    Raises:
        BackupError: when it does not, or does not answer.
    """
    with server.connect() as connection:
        if connection.info.server_version < FIRST_VERSION:
            raise BackupError(
                f"PostgreSQL {connection.info.server_version // 10000} takes no incremental backups",
                remedy="Make a full one; PostgreSQL 17 and later can do it.",
            )
        if connection.execute("SHOW summarize_wal").fetchone() != ("on",):
            raise BackupError(
                "the warehouse keeps no account of the pages that change: summarize_wal is off",
                remedy="Restart it with WORKBENCH_BACKUP_FOLDER set, and make a full backup then.",
            )


@contextmanager
def base_backup(server: Server, positions: dict[str, Segment], manifest: Path | None) -> Iterator[BinaryIO]:
    """The base backup as it is taken, a compressed tar with the WAL that it needs.

    Args:
        server: which one.
        positions: the first and last segment are put into it at the end, as `start` and `end`.
        manifest: of the full backup that an incremental one begins with; None takes all pages.

    Raises:
        BackupError: at the end, when the program has failed.
    """
    incremental = [f"--incremental={manifest}"] if manifest else []
    process = server.start(
        "pg_basebackup",
        *("--pgdata=-", "--format=tar", "--compress=client-gzip:1", "--label=workbench"),
        *("--wal-method=fetch", "--checkpoint=fast", "--verbose", *incremental),
        piped=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[bytes] = []
    listener = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
    listener.start()
    try:
        yield process.stdout  # type: ignore[misc]
        code = process.wait()
        listener.join()
    finally:
        process.kill()
        process.wait()
        listener.join()
        process.stdout.close()
        process.stderr.close()
    text = b"".join(said).decode(errors="replace")
    found = {which: (position, timeline) for which, position, timeline in POSITION.findall(text)}
    if code or set(found) != {"start", "end"}:
        raise BackupError(
            f"pg_basebackup ended with {code}: {text.strip()[-1000:]}", remedy="See the warehouse's log for the reason."
        )
    timeline = int(found["start"][1])
    positions |= {which: Segment.at(timeline, position) for which, (position, _) in found.items()}
