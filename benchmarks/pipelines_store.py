"""How long the store of pipelines takes: claims, the making of a backfill, and a page of ten thousand runs.

    python -m benchmarks.pipelines_store

Its PostgreSQL is the embedded one, with `fsync` on, in a folder that is removed. Nothing is kept.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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


def main() -> None:
    """Print each figure."""
    with (
        tempfile.TemporaryDirectory() as folder,
        store_server(Path(folder) / "home") as server,
        new_store(server) as store,
    ):
        measure(store)


def measure(store: Store) -> None:
    """All figures, on an empty store."""
    with store.transaction() as connection:
        sha256 = register(connection, "flights", {})
    run = NewRun(pipeline="flights", trigger=Trigger.MANUAL, definition_sha256=sha256, steps=STEPS)

    def backfill() -> None:
        days = [replace(run, partition=f"day-{number}") for number in range(PARTITIONS)]
        with store.transaction() as connection:
            make_backfill(connection, days, Reprocess.MISSING, slots=8, requested_by="bench")

    say(f"{PARTITIONS} partitions of {len(STEPS)} steps made", [timed(backfill)])
    with store.transaction() as connection:
        make_runs(connection, [replace(run, event_id=str(number)) for number in range(CLAIMS)])
    say("for comparison, a transaction that writes one row", [timed(lambda: one_row(store)) for _ in range(CLAIMS)])
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
    say(f"a claim, committed, {PARTITIONS} steps waiting behind", claims)
    say("the end of a step, which makes the next one ready", ends)
    make_history(store, run)
    for name, page in {
        f"a page of {RUNS} runs": lambda connection: page_of_runs(connection, pipeline="flights", limit=RUNS),
        "a matrix of 50 runs": lambda connection: run_matrix(connection, "flights"),
        "the list of pipelines": list_pipelines,
    }.items():
        say(name, [timed(in_transaction(store, page)) for _ in range(PAGES)])


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


def say(what: str, seconds: list[float]) -> None:
    """One line, in milliseconds."""
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"{what}: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, {len(seconds)} times")


if __name__ == "__main__":
    main()
