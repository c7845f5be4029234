"""What the dashboard shows, kept beside the samples: a point a minute for a day, and counts of objectives an hour for 30 days.

Samples of every look would have to be read, all of them, for one picture of a day. A point a minute of what is
drawn takes 1.5 MB a day with 84 lines, and is read in tenths of a second.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from workbench.errors import MonitorError
from workbench.observability.monitor.file import WAIT_SECONDS, monitor_file, open_monitor_file

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
KEEP_DAYS = 30  #: of objectives
SCHEMA = """
CREATE TABLE IF NOT EXISTS points (at INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS objectives (
  hour INTEGER NOT NULL, objective TEXT NOT NULL, part TEXT NOT NULL, good REAL NOT NULL, total REAL NOT NULL,
  PRIMARY KEY (hour, objective, part)
);
"""
Point = tuple[str, str, float]  #: picture, line, value
Lines = dict[
    str, dict[str, list[tuple[int, float]]]
]  #: of each picture, of each line: times in milliseconds, and values


@dataclass(frozen=True, kw_only=True)
class Count:
    """How much of something was good.

    Args:
        objective: name of the objective.
        part: what it was of, such as a component; empty for the whole.
        good: looks or requests.
        total: of them all.
    """

    objective: str
    part: str = ""
    good: float
    total: float


class History:
    """The file of the monitor, opened; a context manager. One thread uses it.

    Args:
        path: of the file. A reader does not make it.
        reading: whether it is only read.
    """

    def __init__(self, path: Path, *, reading: bool = False) -> None:
        self._path, self._reading = path, reading

    @classmethod
    def of(cls, home: Path, *, reading: bool = False) -> History:
        """Of the workbench whose WORKBENCH_HOME is *home*."""
        return cls(monitor_file(home), reading=reading)

    def __enter__(self) -> Self:
        with self._reported("opened"):
            if self._reading:
                address = f"{self._path.absolute().as_uri()}?mode=ro"
                self._connection = sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS, isolation_level=None)
            else:
                self._connection = open_monitor_file(self._path)
                self._connection.executescript(SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def add(self, at: int, points: Iterable[Point]) -> None:
        """Keep what is so at an instant, in milliseconds since 1970.

        Raises:
            MonitorError: when it cannot be written, as of all methods that change something.
        """
        body = json.dumps([[picture, line, float(f"{value:.6g}")] for picture, line, value in points])
        with self._reported("written"):
            packed = zlib.compress(body.encode())
            self._connection.execute("INSERT OR REPLACE INTO points VALUES (?, ?)", (at, packed))

    def count(self, at: int, counts: Iterable[Count]) -> None:
        """Add to what is counted in the hour of an instant."""
        hour = at - at % HOUR_MS
        rows = [(hour, each.objective, each.part, each.good, each.total) for each in counts]
        with self._reported("written"):
            self._connection.executemany(
                "INSERT INTO objectives VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "good = good + excluded.good, total = total + excluded.total",
                rows,
            )

    def let_go(self, now: int) -> None:
        """Forget points of more than a day ago, and counts of more than 30 days ago."""
        with self._reported("written"):
            self._connection.execute("DELETE FROM points WHERE at < ?", (now - DAY_MS,))
            self._connection.execute("DELETE FROM objectives WHERE hour < ?", (now - KEEP_DAYS * DAY_MS,))

    def move(self, milliseconds: int) -> None:
        """The clock was set: move what is kept by as much."""
        with self._reported("written"):
            # Not at once: on the way a time may be that of another row.
            for table, column in (("points", "at"), ("objectives", "hour")):
                self._connection.execute(f"UPDATE {table} SET {column} = -{column} - ?", (milliseconds,))
                self._connection.execute(f"UPDATE {table} SET {column} = -{column}")

    def read(self, since: int) -> Lines:
        """The lines of each picture from an instant on.

        Raises:
            MonitorError: when the file is not there yet, or cannot be read.
        """
        found: Lines = {}
        with self._reported("read"):
            for at, body in self._connection.execute("SELECT at, body FROM points WHERE at >= ? ORDER BY at", (since,)):
                for picture, line, value in json.loads(zlib.decompress(body)):
                    found.setdefault(picture, {}).setdefault(line, []).append((at, value))
        return found

    def counts(self, since: int) -> list[Count]:
        """The sums of each objective, of each part, from the hour of an instant on.

        Raises:
            MonitorError: when the file is not there yet, or cannot be read.
        """
        with self._reported("read"):
            rows = self._connection.execute(
                "SELECT objective, part, sum(good), sum(total) FROM objectives WHERE hour >= ? "
                "GROUP BY objective, part ORDER BY objective, part",
                (since - since % HOUR_MS,),
            ).fetchall()
        return [Count(objective=name, part=part, good=good, total=total) for name, part, good, total in rows]

    @contextmanager
    def _reported(self, done: str) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise MonitorError(
                f"{self._path} cannot be {done}: {error}",
                remedy="The monitor makes it: see `workbench status` whether it runs, and whether the disk has room.",
            ) from None
