"""The processes of benchmarks.conditions: `ingest` runs to the end of a topic, `follow` until it is told to end."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.peers.records import Load
from benchmarks.workbench_worker import COLUMNS
from workbench.flows import ingest_flow, open_run
from workbench.ingestion import flow as following
from workbench.ingestion.batch import Batch, Commit
from workbench.ingestion.definition import make_flow
from workbench.loading import Load as Transaction
from workbench.sections import WarehouseSettings
from workbench.settings import Settings


def main() -> None:
    """Do what the first argument says."""
    what, load, dialect = sys.argv[1], Load.read(Path(sys.argv[2])), sys.argv[3]
    warehouse = load.warehouse
    if dialect == "duckdb":
        fields = {
            "WORKBENCH_WAREHOUSE_DIALECT": "duckdb",
            "WORKBENCH_WAREHOUSE_FILE": str(Path.cwd() / "warehouse.duckdb"),
            "WORKBENCH_WAREHOUSE_KEY_FILE": str(Path.cwd() / "duckdb-key"),
        }
        warehouse = WarehouseSettings.model_validate(fields)
    settings = Settings.load(embedded=False).model_copy(update={"kafka": load.kafka, "warehouse": warehouse})
    (follow if what == "follow" else ingest)(settings, load)


def ingest(settings: Settings, load: Load) -> None:
    """Run to the end, and look at the resident memory at each tenth."""
    flow = make_flow("b", {"topic": load.topic, "into": f"{load.schema}.{load.table}", "columns": COLUMNS})
    megabytes: list[int] = []
    process, seen = psutil.Process(), 0

    def look(count: int) -> None:
        nonlocal seen
        seen += count
        while len(megabytes) < 10 and seen >= load.records * (len(megabytes) + 1) // 10:
            megabytes.append(round(process.memory_info().rss / 1e6))

    started = time.monotonic()
    done = ingest_flow(settings, flow, look)
    seconds = time.monotonic() - started
    result = {"rows": done.rows, "dead": done.dead, "rows_per_second": round((done.rows + done.dead) / seconds)}
    print(json.dumps({**result, "seconds": round(seconds, 2), "resident_megabytes": megabytes}))


def follow(settings: Settings, load: Load) -> None:
    """Follow until SIGTERM; keep the age of every record at the end of its transaction."""
    flow = make_flow("b", {"topic": load.topic, "into": f"{load.schema}.{load.table}", "columns": COLUMNS})
    ages: list[np.ndarray] = []
    count = following.count

    def note_ages(load: Transaction, batch: Batch, seconds: float) -> Commit:
        now = time.time()
        ages.append(np.array([now - message.timestamp()[1] / 1000 for message in batch.messages]))
        return count(load, batch, seconds)

    # A commit tells the time of its first record only; the figure is of every record.
    following.count = note_ages
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with open_run(settings, flow, lambda _: None) as run:
            following.run_for_ever(run)
    except KeyboardInterrupt:
        np.save("ages.npy", np.concatenate(ages))


if __name__ == "__main__":
    main()
