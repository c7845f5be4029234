"""What the start of a Spark server costs, with the archive of classes and without, in turns.

    python -m benchmarks.spark_server [--runs 3]

Prints JSON: for each of the two the median of seconds until it listens and until its first query
is answered, of processor seconds, and of resident memory at both moments.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.services.workbench import make_home
from workbench.embedded.archive import ensure_archive
from workbench.embedded.programs import make_spark
from workbench.embedded.spark import warm_up
from workbench.runtime.process import GuardedProcess
from workbench.settings import Settings

POLL_SECONDS = 0.02


def measure_servers(folder: Path, runs: int) -> dict[str, Any]:
    """Medians of *runs* starts each, in a home under *folder* that this makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(make_home(folder)))
        settings = Settings.load(embedded=False)
        ensure_archive(settings)
        found: dict[str, list[dict[str, float]]] = {"archive": [], "plain": []}
        for run in range(runs):
            for kind, samples in found.items():
                samples.append(_start(settings, folder / f"{kind}-{run}", is_plain=kind == "plain"))
    return {
        kind: {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
        for kind, samples in found.items()
    }


def _start(settings: Settings, folder: Path, *, is_plain: bool) -> dict[str, float]:
    server = make_spark(settings, folder, log=folder / "spark.log", lock=folder / "spark.lock")
    launch = server.prepare()
    if is_plain:
        launch = replace(launch, argv=tuple(each for each in launch.argv if "SharedArchiveFile" not in each))
    process = GuardedProcess(launch)
    started = time.monotonic()
    process.start()
    try:
        while not server.is_healthy():
            time.sleep(POLL_SECONDS)
        listens = _sample(process, started, "listens")
        warm_up(server.address, server.token)
        return {**listens, **_sample(process, started, "answers")}
    finally:
        process.stop()


def _sample(process: GuardedProcess, started: float, moment: str) -> dict[str, float]:
    seconds = time.monotonic() - started
    server = psutil.Process(process.pid)
    times = server.cpu_times()
    return {
        f"{moment}_seconds": round(seconds, 2),
        f"{moment}_cpu_seconds": round(times.user + times.system, 2),
        f"{moment}_resident_mb": round(server.memory_info().rss / 1e6),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(measure_servers(Path(folder), parser.parse_args().runs), indent=2) + "\n")


if __name__ == "__main__":
    main()
