"""What the monitor keeps: samples of the last day, alerts, what was told of them, and silences.

A file of SQLite. Two processes use it, the monitor and a command; it survives a kill at any instant
(a write-ahead log, sqlite.org/wal.html), and needs no other server: alerts go on while the store of
pipelines is down. The samples of an instant are one compressed row: a day of 1,000 series takes about
100 MB, and one insertion every fifteen seconds.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from workbench.errors import MonitorError
from workbench.observability.alerts.samples import Labels
from workbench.observability.alerts.states import Alert, Stage
from workbench.observability.monitor.file import monitor_file, open_monitor_file

KEEP_MS = 86_400_000
SCHEMA = """
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, metric TEXT NOT NULL, labels TEXT NOT NULL, UNIQUE (metric, labels));
CREATE TABLE IF NOT EXISTS scrapes (at INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS alerts (rule TEXT NOT NULL, labels TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (rule, labels));
CREATE TABLE IF NOT EXISTS told (rule TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS silences (
  id INTEGER PRIMARY KEY, rule TEXT NOT NULL, labels TEXT NOT NULL, until REAL NOT NULL, made_by TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS levels (rule TEXT PRIMARY KEY, body TEXT NOT NULL);
PRAGMA user_version = 2;
"""
VERSION = 2
Sample = tuple[str, Labels, float | None]


@dataclass(frozen=True)
class Level:
    """What a quantity of an alert's condition is now, whether it holds or not."""

    quantity: str
    labels: Labels
    value: float


@dataclass(frozen=True, kw_only=True)
class Silence:
    """Nobody is told that an alert fires, until an instant."""

    id: int
    rule: str  #: empty is every alert
    labels: Labels  #: that the alert has; others do not matter
    until: float  #: seconds since 1970
    made_by: str
    reason: str

    def covers(self, rule: str, labels: Labels) -> bool:
        """Whether it is about that alert."""
        return self.rule in {"", rule} and set(self.labels) <= set(labels)


class MonitorDatabase:
    """The file, opened; a context manager. One thread uses it.

    Args:
        path: made when it is not there, for this user alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids: dict[tuple[str, Labels], int] = {}

    @classmethod
    def of(cls, home: Path) -> MonitorDatabase:
        """Of the workbench whose WORKBENCH_HOME is *home*."""
        return cls(monitor_file(home))

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = open_monitor_file(self._path)
            # Only when it has to be: who just looks writes nothing.
            if self._connection.execute("PRAGMA user_version").fetchone() != (VERSION,):
                self._connection.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise MonitorError(
                f"{self._path} cannot be opened: {error}",
                remedy="See that its disk has room; a damaged one may be removed: samples and silences are lost then.",
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One transaction.

        Raises:
            MonitorError: when it cannot be written; nothing of it was.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._ids.clear()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise MonitorError(
                f"{self._path} cannot be written: {error}", remedy="See that its disk has room."
            ) from None
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise

    def add_samples(self, at: int, samples: Iterable[Sample]) -> None:
        """Keep the samples of one instant, in milliseconds; None is the end of a series."""
        body = json.dumps([[self._id(metric, labels), value] for metric, labels, value in samples])
        self._connection.execute(
            "INSERT OR REPLACE INTO scrapes VALUES (?, ?)", (at, zlib.compress(body.encode(), level=3))
        )

    def read_samples(self, since: int) -> Iterator[tuple[int, list[Sample]]]:
        """The samples of each instant from *since* on, the oldest first."""
        rows = self._connection.execute("SELECT id, metric, labels FROM series").fetchall()
        names = {number: (metric, _labels(labels)) for number, metric, labels in rows}
        for at, body in self._connection.execute("SELECT at, body FROM scrapes WHERE at >= ? ORDER BY at", (since,)):
            yield at, [(*names[number], value) for number, value in json.loads(zlib.decompress(body))]

    def let_go(self, now: int) -> None:
        """Forget samples of more than a day ago, and silences that are over."""
        self._connection.execute("DELETE FROM scrapes WHERE at < ?", (now - KEEP_MS,))
        self._connection.execute("DELETE FROM silences WHERE until < ?", (now / 1000,))

    def move(self, milliseconds: int) -> None:
        """The clock was set: move what is kept by as much."""
        # Not at once: on the way a time may be that of another row.
        self._connection.execute("UPDATE scrapes SET at = -at - ?", (milliseconds,))
        self._connection.execute("UPDATE scrapes SET at = -at")

    def set_alerts(self, alerts: Mapping[str, Mapping[Labels, Alert]], evaluated: int) -> None:
        """Keep the alerts of each rule in place of those before, and when they were evaluated."""
        self._connection.execute("DELETE FROM alerts")
        # Not `asdict`: it copies deeply what is only written.
        self._connection.executemany(
            "INSERT INTO alerts VALUES (?, ?, ?)",
            [
                (rule, json.dumps(labels), json.dumps(vars(alert)))
                for rule, found in alerts.items()
                for labels, alert in found.items()
            ],
        )
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('evaluated', ?)", (evaluated,))

    def read_alerts(self) -> dict[str, list[Alert]]:
        """The alerts of each rule, as they were evaluated last."""
        found: dict[str, list[Alert]] = {}
        for rule, body in self._connection.execute("SELECT rule, body FROM alerts ORDER BY rule, labels"):
            fields = json.loads(body)
            labels = tuple((name, value) for name, value in fields.pop("labels"))
            found.setdefault(rule, []).append(Alert(labels=labels, **{**fields, "stage": Stage(fields["stage"])}))
        return found

    def set_levels(self, levels: Mapping[str, Iterable[Level]]) -> None:
        """Keep what the quantities of each rule are, in place of those before."""
        self._connection.execute("DELETE FROM levels")
        rows = [
            (rule, json.dumps([[each.quantity, each.labels, each.value] for each in found]))
            for rule, found in levels.items()
        ]
        self._connection.executemany("INSERT INTO levels VALUES (?, ?)", rows)

    def read_levels(self) -> dict[str, list[Level]]:
        """What the quantities of each rule were when it was evaluated last."""
        return {
            rule: [
                Level(quantity, tuple((name, text) for name, text in labels), value)
                for quantity, labels, value in json.loads(body)
            ]
            for rule, body in self._connection.execute("SELECT rule, body FROM levels")
        }

    def evaluated(self) -> int:
        """When alerts were evaluated last, in milliseconds; 0 is never."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = 'evaluated'").fetchone()
        return int(row[0]) if row else 0

    def set_told(self, told: Mapping[str, Any]) -> None:
        """Keep what was told of each rule, as values of JSON."""
        self._connection.execute("DELETE FROM told")
        rows = [(rule, json.dumps(body)) for rule, body in told.items()]
        self._connection.executemany("INSERT INTO told VALUES (?, ?)", rows)

    def read_told(self) -> dict[str, Any]:
        """What was told of each rule."""
        return {rule: json.loads(body) for rule, body in self._connection.execute("SELECT rule, body FROM told")}

    def add_silence(self, rule: str, labels: Labels, until: float, made_by: str, reason: str) -> int:
        """Make a silence; gives its number."""
        cursor = self._connection.execute(
            "INSERT INTO silences (rule, labels, until, made_by, reason) VALUES (?, ?, ?, ?, ?)",
            (rule, json.dumps(labels), until, made_by, reason),
        )
        return int(cursor.lastrowid or 0)

    def remove_silence(self, number: int) -> bool:
        """End a silence; whether there was one."""
        return self._connection.execute("DELETE FROM silences WHERE id = ?", (number,)).rowcount > 0

    def silences(self, now: float | None = None) -> list[Silence]:
        """Those that are not over, by now or another instant in seconds since 1970."""
        at = time.time() if now is None else now
        rows = self._connection.execute(
            "SELECT id, rule, labels, until, made_by, reason FROM silences WHERE until > ? ORDER BY id", (at,)
        )
        return [
            Silence(id=number, rule=rule, labels=_labels(labels), until=until, made_by=made_by, reason=reason)
            for number, rule, labels, until, made_by, reason in rows
        ]

    def _id(self, metric: str, labels: Labels) -> int:
        known = self._ids.get((metric, labels))
        if known is not None:
            return known
        values = (metric, json.dumps(labels))
        self._connection.execute("INSERT OR IGNORE INTO series (metric, labels) VALUES (?, ?)", values)
        with closing(
            self._connection.execute("SELECT id FROM series WHERE metric = ? AND labels = ?", values)
        ) as found:
            self._ids[metric, labels] = int(found.fetchone()[0])
        return self._ids[metric, labels]


def _labels(text: str) -> Labels:
    return tuple((name, value) for name, value in json.loads(text))
