"""The monitor's file of SQLite: where it is, and how whoever writes into it opens it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

WAIT_SECONDS = 10.0  #: for another process that writes


def monitor_file(home: Path) -> Path:
    """That of the workbench whose WORKBENCH_HOME is *home*."""
    return home / "monitor" / "monitor.sqlite"


def open_monitor_file(path: Path) -> sqlite3.Connection:
    """Open it to write, and make it when it is not there, for this user alone; its folder is there.

    Raises:
        OSError, sqlite3.Error: when it cannot be opened.
    """
    # Of a file that is not there yet, SQLite would let others read. Its other files get the same rights.
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection
