"""What the view of progress costs a query, and how soon an interrupt ends one.

The same query is asked in the same kernel, in turns: by `spark`, whose progress is shown, and by a
plain session of PySpark on the same server.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.spark_kernels import FIRST_CELL, Server, endpoint_variables, run_cell, running_kernel

ROWS = 1_200_000_000  # about ten seconds on two cores
INTERRUPT_AFTER_SECONDS = 3.0
PLAIN_CELL = """
from pyspark.sql.connect.session import SparkSession
from workbench.sections import SparkSettings
from workbench.transformation.whereabouts import channel, endpoint
plain = SparkSession.builder.channelBuilder(channel(*endpoint(SparkSettings(), print))).create()
assert plain.range(10).count() == 10
"""
QUERY = (
    "rows = {session}.range(0, {rows}, 1, 40).selectExpr('id % 1000 AS key', 'sha2(cast(id AS string), 256) AS hash')"
    ".groupBy('key').count().collect()\nassert len(rows) == 1000"
)


def measure_progress(home: Path, folder: Path, *, runs: int) -> dict[str, Any]:
    """Seconds of the query with the view and without, and from an interrupt to the end of the cell.

    Args:
        home: a WORKBENCH_HOME whose jars are there.
        folder: for the server's files.
        runs: how often.
    """
    found: dict[str, list[float]] = {"shown": [], "plain": [], "cancel": []}
    with Server(home, folder / "server") as server:
        server.wait()
        with running_kernel(home, **endpoint_variables(server)) as kernel:
            run_cell(kernel, FIRST_CELL)
            run_cell(kernel, PLAIN_CELL)
            for number in range(runs + 1):
                seconds = {
                    "shown": run_cell(kernel, QUERY.format(session="spark", rows=ROWS)),
                    "plain": run_cell(kernel, QUERY.format(session="plain", rows=ROWS)),
                    "cancel": _cancel(kernel),
                }
                if number:  # the first is a warm-up
                    for name, value in seconds.items():
                        found[name].append(value)
                print(f"progress {number or 'warm-up'}: {seconds}", flush=True)
    return dict(found)


def _cancel(kernel: Any) -> float:
    """Seconds from the interrupt until the cell has ended."""
    interrupted: list[float] = []

    def interrupt() -> None:
        interrupted.append(time.perf_counter())
        kernel.parent.interrupt_kernel()

    timer = threading.Timer(INTERRUPT_AFTER_SECONDS, interrupt)
    timer.start()
    reply = kernel.execute_interactive(QUERY.format(session="spark", rows=10 * ROWS), output_hook=lambda _: None)
    ended = time.perf_counter()
    timer.join()
    if reply["content"]["status"] != "error":
        raise RuntimeError("the query was not interrupted")
    run_cell(kernel, FIRST_CELL)
    return round(ended - interrupted[0], 2)
