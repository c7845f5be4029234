"""kill -9 of Spark, its Python workers, the database and the clients while Spark writes: no half, nothing doubled, nothing left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import sqlalchemy as sa

import workbench
from tests.failover.chaos import patiently
from tests.failover.spark_writer import DAYS, FILES, ROWS, rows_of
from tests.services.workbench import ROOT, environment, is_running, process_arguments, wait_until
from workbench.batch.partitions import make_partitions
from workbench.settings import Settings
from workbench.warehouse.engine import make_engine

pytestmark = pytest.mark.alone

KINDS = ("write", "stream", "batch")
FAULTS = ("spark", "workers", "warehouse", "clients")
ENDED_SECONDS = 300
LATEST_SECONDS = 3.0  # of a fault, after the first of the programs writes
WRITING = (
    "SELECT count(*) FILTER (WHERE application_name ~ '^(job|stream)_'), "
    "(SELECT count(*) FROM pg_tables WHERE schemaname = 'workbench_staging') FROM pg_stat_activity"
)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [1])
def test_kills_while_spark_writes_leave_no_half_and_double_nothing(own_workbench, monkeypatch, tmp_path, seed):
    monkeypatch.setenv("WORKBENCH_HOME", str(own_workbench.home))
    rng = random.Random(seed)
    tables = {kind: f"s_{uuid4().hex}.{kind}" for kind in KINDS}
    make_files(tmp_path)
    answering(own_workbench)
    unfinished = set(KINDS)
    faults = rng.sample(FAULTS, len(FAULTS))

    for fault in faults:
        programs = {kind: start(own_workbench.home, kind, tables[kind], tmp_path) for kind in sorted(unfinished)}
        wait_until(lambda p=programs: any_writes() or ended(p), ENDED_SECONDS, "a program to write")
        time.sleep(rng.uniform(0.0, LATEST_SECONDS))  # the instant of the fault, not a wait for anything
        inflict(fault, own_workbench, programs, rng)
        for kind, program in programs.items():
            if program.wait(ENDED_SECONDS) == 0 and kind != "write":
                unfinished.discard(kind)
        answering(own_workbench)
        nothing_is_half(tables, (seed, faults, fault))
    ends = {kind: start(own_workbench.home, kind, tables[kind], tmp_path) for kind in KINDS}
    assert {kind: program.wait(ENDED_SECONDS) for kind, program in ends.items()} == dict.fromkeys(KINDS, 0), faults

    nothing_is_half(tables, (seed, faults, "end"))
    assert ask(f"SELECT count(*), count(DISTINCT id) FROM {tables['stream']}") == [(FILES * 1000, FILES * 1000)], faults
    days = dict(ask(f"SELECT day::text, count(*) FROM {tables['batch']} GROUP BY 1"))
    assert days == {str(day): rows_of(str(day)) for day in make_partitions("day", since=DAYS[0], until=DAYS[1])}, faults
    assert ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'workbench_staging'") == [(0,)], faults


def make_files(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "in").mkdir()
    for number in range(FILES):
        ids = pa.array(range(number * 1000, (number + 1) * 1000), pa.int64())
        pq.write_table(pa.table({"id": ids}), folder / "in" / f"{number}.parquet")


def start(home: Path, kind: str, table: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.failover.spark_writer", kind, table, str(folder)]
    return subprocess.Popen(command, env=environment(home), cwd=ROOT, stderr=subprocess.DEVNULL)


def inflict(fault: str, workbench_: Any, programs: dict[str, subprocess.Popen[bytes]], rng: random.Random) -> None:
    if fault == "clients":
        for program in programs.values():
            program.kill()
    elif fault == "workers":
        children = psutil.Process(workbench_.component("spark")["pid"]).children(recursive=True)
        arguments = process_arguments(children)  # those that have just ended have none
        workers = [each for each in children if "pyspark" in arguments.get(each.pid, "")]
        for worker in rng.sample(workers, (len(workers) + 1) // 2):
            with suppress(psutil.Error):
                worker.kill()
    else:
        os.kill(workbench_.component(fault)["pid"], signal.SIGKILL)


def any_writes() -> bool:
    """Whether a task is at it, or has staged rows that are not published."""
    return patiently(lambda: ask(WRITING)) != [(0, 0)]


def ended(programs: dict[str, subprocess.Popen[bytes]]) -> bool:
    return all(program.poll() is not None for program in programs.values())


def answering(workbench_: Any) -> None:
    """Wait until both servers answer again, and what clients of before had begun has ended."""
    wait_until(
        lambda: all(is_running(workbench_, name) for name in ("warehouse", "spark")), ENDED_SECONDS, "servers to run"
    )
    patiently(lambda: ask("SELECT 1"))
    wait_until(lambda: patiently(workbench.spark).range(1).count() == 1, 120, "Spark to answer")


def nothing_is_half(tables: dict[str, str], what: object) -> None:
    """The table of generations has one of them, whole; a day has its rows and its bookmark, or neither."""
    if exists(tables["write"]):
        assert ask(f"SELECT count(*), count(DISTINCT id), count(DISTINCT generation) FROM {tables['write']}") == [
            (ROWS, ROWS, 1)
        ], what
    if exists(tables["stream"]):
        rows = ask(f"SELECT count(*), count(DISTINCT id), count(*) % 1000 FROM {tables['stream']}")[0]
        assert rows[0] == rows[1], (what, rows)
        assert rows[2] == 0, (what, rows)
    if exists(tables["batch"]):
        # One statement: what a client that was killed had begun may still go on.
        days = ask(
            f"SELECT day, found, rows FROM (SELECT day::text, count(*) AS found FROM {tables['batch']} GROUP BY 1) AS days "
            f"FULL JOIN (SELECT partition AS day, rows FROM workbench.bookmarks WHERE job = '{tables['batch']}' "
            "AND rows IS NOT NULL) AS marks USING (day)"
        )
        assert all(found == marked == rows_of(day) for day, found, marked in days), (what, days)


def exists(table: str) -> bool:
    return ask(f"SELECT to_regclass('{table}')") != [(None,)]


def ask(statement: str) -> list[Any]:
    engine = make_engine(Settings.load().warehouse)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement.replace(":", "\\:")))]
    finally:
        engine.dispose()
