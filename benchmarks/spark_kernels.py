"""Real kernels that run one cell, and what their Spark server takes in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psutil

from pipelines.engine import kernel_folders
from tests.services.workbench import environment, wait_until
from workbench.embedded.lab import ENDPOINT_VARIABLE, UserSpark
from workbench.settings import Settings

CELL_SECONDS = 180
READY_SECONDS = 120
FIRST_CELL = "assert spark.range(10).count() == 10"
# What a notebook without the workbench has.
CLASSIC_CELL = (
    "from pyspark.sql import SparkSession\n"
    "spark = SparkSession.builder.master('local[2]').config('spark.ui.enabled', False).getOrCreate()\n" + FIRST_CELL
)


class Server:
    """A Spark server as JupyterLab starts one for its user."""

    def __init__(self, home: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.endpoint = folder / "endpoint.json"
        self._lock = folder / "run" / "spark.lock"
        os.environ["WORKBENCH_HOME"] = str(home)
        self._spark = UserSpark(Settings.load(embedded=False), folder)
        self._log = folder / "spark.log"

    def __enter__(self) -> Self:
        self._spark.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._spark.stop()

    def wait(self) -> None:
        """Until it is ready, warm-up included."""
        wait_until(self.endpoint.exists, READY_SECONDS, "the Spark server")

    def megabytes(self) -> dict[str, float]:
        """Resident and proportional set size of its JVM, as the guard's child."""
        java = [
            each
            for each in psutil.Process().children(recursive=True)
            if "SparkConnectServer" in " ".join(each.cmdline())
        ]
        memory = java[-1].memory_full_info()
        return {"rss": round(memory.rss / 1e6), "pss": round(memory.pss / 1e6)}


@contextmanager
def running_kernel(home: Path, **variables: str) -> Iterator[Any]:
    """A kernel of ours that is connected and waits."""
    from jupyter_client.manager import KernelManager
    from traitlets.config import Config

    with kernel_folders():
        manager = KernelManager(kernel_name="python3", config=Config({"KernelManager": {"transport": "ipc"}}))
        manager.start_kernel(
            env={**environment(home), **variables, "JUPYTER_RUNTIME_DIR": os.environ["JUPYTER_RUNTIME_DIR"]}
        )
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            yield client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def run_cell(client: Any, code: str) -> float:
    """Seconds that a cell takes; one that fails is no measurement."""
    started = time.perf_counter()
    reply = client.execute_interactive(code, timeout=CELL_SECONDS, output_hook=lambda _: None)
    seconds = time.perf_counter() - started
    if reply["content"]["status"] != "ok":
        raise RuntimeError("\n".join(reply["content"]["traceback"]))
    return round(seconds, 2)


def endpoint_variables(server: Server) -> Mapping[str, str]:
    """What leads a kernel to the server, as JupyterLab tells it."""
    return {ENDPOINT_VARIABLE: str(server.endpoint)}
