"""The workbench's own lanes: every guarantee on, nothing set but what its defaults are."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.lane import Command, Lane, Mode
from benchmarks.peers.records import Load
from workbench import __version__

ROOT = Path(__file__).parent.parent


def workbench_lane(mode: Mode) -> Lane:
    """A flow that appends, or merges by the id."""

    def prepare(load: Load, folder: Path) -> Command:
        file = load.write(folder / "load.json")
        argv = (sys.executable, "-m", "benchmarks.workbench_worker", str(file), mode)
        return Command(argv=argv, environment={"PYTHONPATH": str(ROOT), "WORKBENCH_HOME": str(folder)})

    return Lane(name=f"workbench-{mode}", mode=mode, prepare=prepare, version=f"workbench {__version__}")
