"""A lane is one way from the topic into the table. It runs as processes of its own, and is measured from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
import psycopg
from psycopg import sql

from benchmarks.peers.records import Load, connect

Mode = Literal["append", "merge"]

ENDED = "BENCHMARK_ENDED"  #: names the file into which a worker writes time.monotonic() after its last commit
SAMPLE_SECONDS = 0.05
PROCESSES_EVERY = 4  # samples; looking at processes costs more than looking at the table
CALM_SECONDS = 0.5  # a table that has not grown for so long is counted
STOP_SECONDS = 30.0
WARM_UP_PART = 0.2  # of the rows; the steady rate is that of the rest
LOG_TAIL_CHARACTERS = 1500


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run for a lane. Secrets go into files or `environment`, never into `argv`."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ends: bool = True  #: False: it waits for more records, and is stopped when the table holds them all


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One way from the topic into the table."""

    name: str
    mode: Mode  #: merge: the rows are upserted by their id
    #: Called before the clock starts, with an empty folder: fetches what is needed, makes the table.
    prepare: Callable[[Load, Path], Command]
    version: str
    most_records: int | None = None  #: a lane that would take too long gets fewer
    streams: bool = True  #: False: it first reads all and then writes all, so that it has no steady rate

    def records(self, asked: int) -> int:
        """How many records the lane gets when *asked* are asked for."""
        return min(asked, self.most_records or asked)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What one run of a lane took."""

    rows: int
    seconds: float  #: from the start of its process until its last row was there
    steady_rows_per_second: float | None  #: over the last four fifths of the rows
    peak_megabytes: float  #: resident memory of its processes together
    cpu_seconds: float  #: of its processes; those of broker and database are not in it

    @property
    def rows_per_second(self) -> float:
        """Over the whole time, start included."""
        return self.rows / self.seconds


class LaneFailed(Exception):
    """The lane ended with an error, took too long, or its table is not what it should be."""


def run_lane(lane: Lane, load: Load, folder: Path, *, most_seconds: float) -> Finished:
    """Run *lane* once, on an empty database, and measure it.

    Raises:
        LaneFailed: when its processes failed or took more than *most_seconds*.
    """
    command = lane.prepare(load, folder)
    ended, log = folder / "ended", folder / "lane.log"
    environment = {**os.environ, **command.environment, ENDED: str(ended)}
    with log.open("wb") as output, connect(load.warehouse) as connection:
        started = time.monotonic()
        process = subprocess.Popen(
            command.argv, env=environment, cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
        try:
            observer = Observer(connection, load, process)
            end = observer.watch(command, started + most_seconds)
        except LaneFailed as error:
            raise LaneFailed(f"{error}\n{tail(log)}") from None
        finally:
            stop(process)
    end = float(ended.read_text(encoding="utf-8")) if ended.is_file() else end
    return Finished(
        rows=load.records,
        seconds=end - started,
        steady_rows_per_second=observer.steady_rate(end) if lane.streams else None,
        peak_megabytes=observer.peak_bytes / 1e6,
        cpu_seconds=sum(observer.cpu_seconds.values()),
    )


class Observer:
    """Looks at the size of the table and at the processes of the lane until it is done.

    The size of a table tells how many rows were written without reading them: all have nearly
    the same size. Rows are counted only when the table has stopped growing.
    """

    def __init__(
        self, connection: psycopg.Connection[tuple[int, ...]], load: Load, process: subprocess.Popen[bytes]
    ) -> None:
        self.connection, self.load, self.process = connection, load, process
        self.sizes: list[tuple[float, int]] = []  #: when it was seen to have grown, and the bytes
        self.peak_bytes = 0
        self.cpu_seconds: dict[int, float] = {}

    def watch(self, command: Command, deadline: float) -> float:
        """Wait until the lane is done; returns when its last row was seen."""
        looks, counted = 0, 0
        while True:
            now = time.monotonic()
            code = self.process.poll()
            self._look_at_table(now)
            if looks % PROCESSES_EVERY == 0:
                self._look_at_processes()
            if code is not None and (code or not command.ends):
                raise LaneFailed(f"its process ended with code {code}")
            if code == 0:
                return now
            if not command.ends and self.sizes and now - self.sizes[-1][0] > CALM_SECONDS and len(self.sizes) > counted:
                counted = len(self.sizes)
                if self._count() >= self.load.records:
                    return self.sizes[-1][0]
            if now > deadline:
                raise LaneFailed(f"it was not done in time; the table holds {self._count()} rows")
            looks += 1
            time.sleep(SAMPLE_SECONDS)

    def steady_rate(self, end: float) -> float | None:
        """Rows a second from the moment when a fifth of them was there."""
        if not self.sizes or not self.sizes[-1][1]:
            return None
        whole = self.sizes[-1][1]
        when, size = next(each for each in self.sizes if each[1] >= whole * WARM_UP_PART)
        return self.load.records * (1 - size / whole) / (end - when) if end > when and size < whole else None

    def _look_at_table(self, now: float) -> None:
        row = self.connection.execute(
            "SELECT coalesce(pg_relation_size(to_regclass(%s)), 0)", [f'"{self.load.schema}"."{self.load.table}"']
        ).fetchone()
        size = row[0] if row else 0
        if size and (not self.sizes or size > self.sizes[-1][1]):
            self.sizes.append((now, size))

    def _look_at_processes(self) -> None:
        resident = 0
        try:
            tree = [root := psutil.Process(self.process.pid), *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for each in tree:
            try:
                with each.oneshot():
                    resident += each.memory_info().rss
                    times = each.cpu_times()
                    self.cpu_seconds[each.pid] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        self.peak_bytes = max(self.peak_bytes, resident)

    def _count(self) -> int:
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(self.load.schema, self.load.table))
        try:
            row = self.connection.execute(query).fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
        return row[0] if row else 0


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the lane's processes, which are a group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue


def tail(log: Path) -> str:
    """The end of what the lane printed."""
    return log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARACTERS:]
