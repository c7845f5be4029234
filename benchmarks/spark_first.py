"""The first query of a new notebook: with the user's server up, with it down, and without the workbench."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from benchmarks.spark_kernels import CLASSIC_CELL, FIRST_CELL, Server, endpoint_variables, run_cell, running_kernel
from workbench.embedded.archive import ensure_archive
from workbench.settings import Settings

WARM_KERNELS = 3  # of each run and kind, on one server
PERSON_SECONDS = 8.0  # from a kernel that is ready to the first cell of somebody who has to write it


def measure_first(home: Path, folder: Path, *, runs: int) -> dict[str, Any]:
    """Seconds of each, and the memory of the server. The three take turns in each run.

    Args:
        home: a WORKBENCH_HOME whose jars are there.
        folder: for the servers' files.
        runs: how often.
    """
    os.environ["WORKBENCH_HOME"] = str(home)
    ensure_archive(Settings.load(embedded=False))  # as the first `workbench up` does
    names = ("down", "up", "up_at_once", "classic", "memory_before_use", "memory_after_use")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for number in range(runs):
        with running_kernel(home) as kernel:
            found["classic"].append(run_cell(kernel, CLASSIC_CELL))
        found["down"].append(_down(home, folder / f"down-{number}"))
        with Server(home, folder / f"up-{number}") as server:
            server.wait()
            found["memory_before_use"].append(server.megabytes())
            for _ in range(WARM_KERNELS):
                for name, pause in (("up", PERSON_SECONDS), ("up_at_once", 0.0)):
                    with running_kernel(home, **endpoint_variables(server)) as kernel:
                        time.sleep(pause)
                        found[name].append(run_cell(kernel, FIRST_CELL))
            found["memory_after_use"].append(server.megabytes())
        print(f"first query {number + 1}: { ({name: values[-1] for name, values in found.items()}) }", flush=True)
    return found


def _down(home: Path, folder: Path) -> float:
    """From the start of the server, which is the start of the first kernel, to the answer."""
    server = Server(home, folder)
    with running_kernel(home, **endpoint_variables(server)) as kernel:
        started = time.perf_counter()
        with server:
            run_cell(kernel, FIRST_CELL)
            return round(time.perf_counter() - started, 2)
