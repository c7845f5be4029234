"""The workbench's own lanes: every guarantee on, nothing set but what its defaults are."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.lane import Command, Lane, Mode
from benchmarks.peers.records import Load
from benchmarks.peers.spark_jdbc import DRIVER_MEMORY, jars
from workbench import __version__

ROOT = Path(__file__).parent.parent


def workbench_lane(mode: Mode) -> Lane:
    """A flow that appends, or merges by the id."""

    def prepare(load: Load, folder: Path) -> Command:
        file = load.write(folder / "load.json")
        argv = (sys.executable, "-m", "benchmarks.workbench_worker", str(file), mode)
        return Command(argv=argv, environment={"PYTHONPATH": str(ROOT), "WORKBENCH_HOME": str(folder)})

    return Lane(name=f"workbench-{mode}", mode=mode, prepare=prepare, version=f"workbench {__version__}")


def workbench_spark_lane() -> Lane:
    """A flow that Spark brings, on two cores and with the memory of the peer; its server's start is in the time."""

    def prepare(load: Load, folder: Path) -> Command:
        jars()
        (folder / "jars").symlink_to(ROOT / ".workbench" / "jars")
        file = load.write(folder / "load.json")
        return Command(
            argv=(sys.executable, "-m", "benchmarks.workbench_spark_worker", str(file)),
            environment={
                "PYTHONPATH": str(ROOT),
                "WORKBENCH_HOME": str(folder),
                "SPARK_MASTER_URL": "local[2]",
                "SPARK_DRIVER_MEMORY": DRIVER_MEMORY,
            },
        )

    return Lane(
        name="workbench-spark-append",
        mode="append",
        prepare=prepare,
        version=f"workbench {__version__}, Spark {version('pyspark')}",
    )
