"""How long the store of pipelines takes: claims, the making of a backfill, and a page of ten thousand runs.

Its PostgreSQL is the embedded one, with `fsync` on, in a folder that is removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.times import in_milliseconds
from pipelines.states import State
from pipelines.store.claims.taking import take
from pipelines.store.claims.writing import finish
from pipelines.store.database import Store
from pipelines.store.pages.overview import list_pipelines
from pipelines.store.pages.runs import page_of_runs, run_matrix
from pipelines.store.records import NewRun, NewStep, Outcome, Reprocess, Trigger
from pipelines.store.runs.backfills import make_backfill
from pipelines.store.runs.making import make_runs, register
from tests.services.pipelines_store import new_store, store_server

PARTITIONS = 1_000
RUNS = 10_000
CLAIMS = 500
PAGES = 10
STEPS = (NewStep(name="extract"), NewStep(name="load", after=("extract",)), NewStep(name="check", after=("load",)))


def measure_store(folder: Path, runs: int) -> dict[str, Any]:
    """Milliseconds of each, on an empty store; 1,000 partitions and 500 claims once, whatever *runs*, and pages ten times a run."""
    with store_server(folder / "home") as server, new_store(server) as store:
        with store.transaction() as connection:
            sha256 = register(connection, "flights", {})
        run = NewRun(pipeline="flights", trigger=Trigger.MANUAL, definition_sha256=sha256, steps=STEPS)
        return {**work(store, run), **pages(store, run, runs * PAGES)}


def work(store: Store, run: NewRun) -> dict[str, Any]:
    """What schedulers, workers and backfills do."""

    def backfill() -> None:
        days = [replace(run, partition=f"day-{number}") for number in range(PARTITIONS)]
        with store.transaction() as connection:
            make_backfill(connection, days, Reprocess.MISSING, slots=8, requested_by="bench")

    made = in_milliseconds([timed(backfill)])
    with store.transaction() as connection:
        make_runs(connection, [replace(run, event_id=str(number)) for number in range(CLAIMS)])
    rows = in_milliseconds([timed(lambda: one_row(store)) for _ in range(CLAIMS)])
    claims, ends = [], []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        with store.transaction() as connection:
            claim = take(connection, "bench")
        taken = time.perf_counter()
        assert claim is not None
        with store.transaction() as connection:
            finish(connection, claim, Outcome(state=State.SUCCEEDED))
        claims.append(taken - began)
        ends.append(time.perf_counter() - taken)
    return {
        f"{PARTITIONS} partitions of {len(STEPS)} steps made": made,
        "for comparison, a transaction that writes one row": rows,
        f"a claim, committed, {PARTITIONS} steps waiting behind": in_milliseconds(claims),
        "the end of a step, which makes the next one ready": in_milliseconds(ends),
    }


def pages(store: Store, run: NewRun, times: int) -> dict[str, Any]:
    """What pages ask the store for, without HTTP."""
    make_history(store, run)
    asked = {
        f"a page of {RUNS} runs": lambda connection: page_of_runs(connection, pipeline="flights", limit=RUNS),
        "a matrix of 50 runs": lambda connection: run_matrix(connection, "flights"),
        "the list of pipelines": list_pipelines,
    }
    return {
        name: in_milliseconds([timed(in_transaction(store, page)) for _ in range(times)])
        for name, page in asked.items()
    }


def one_row(store: Store) -> None:
    """The least that a claim could take: one statement, and a commit that is on disk."""
    with store.transaction() as connection:
        connection.exec_driver_sql("UPDATE pipelines.pipelines SET updated_at = clock_timestamp()")


def make_history(store: Store, run: NewRun) -> None:
    """Runs until there are more than a page of them."""
    for first in range(0, RUNS, 1000):
        with store.transaction() as connection:
            make_runs(connection, [replace(run, event_id=f"history-{first + number}") for number in range(1000)])
    with store.transaction() as connection:
        connection.exec_driver_sql("ANALYZE")


def in_transaction(store: Store, page: Callable[..., object]) -> Callable[[], None]:
    """The page, read in a transaction of its own."""

    def read() -> None:
        with store.transaction() as connection:
            page(connection)

    return read


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
