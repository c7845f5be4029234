"""How fast Spark is for a person: first queries, memory, the progress view, and rows to and from the warehouse.

    python -m benchmarks.spark [--runs 3] [--only first,…] [--output FILE]

Each figure stands beside its peers, which take turns with it in the same run. Writes
benchmarks/results/spark.json, where a part that is measured alone replaces only itself, and prints
each figure beside its goal. The stream into PostgreSQL is a lane of `benchmarks.ingest`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.machine import machine, measure_part
from benchmarks.spark_first import measure_first
from benchmarks.spark_progress import measure_progress
from benchmarks.spark_server import measure_servers
from tests.services.workbench import environment, make_home, running_workbench

RESULTS = Path(__file__).parent / "results" / "spark.json"

Figure = tuple[str, float, str, float | None]  #: what, value, unit, goal (at most)


class Part(Protocol):
    """What measures one part, in an empty folder."""

    def __call__(self, folder: Path, runs: int) -> dict[str, Any]:
        """Measure *runs* times."""


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    result: dict[str, Any] = json.loads(arguments.output.read_text("utf-8")) if arguments.output.exists() else {}
    result["machine"] = machine()
    for name in arguments.only.split(","):
        command = f"python -m benchmarks.spark --runs {arguments.runs} --only {name}"
        measure_part(result, name, partial(PARTS[name], runs=arguments.runs), command=command, output=arguments.output)
    for what, value, unit, goal in figures(result):
        print(f"{what:<62}{value:10.2f} {unit:<6}{'' if goal is None else f'(goal: at most {goal:g})'}")


def _first(folder: Path, runs: int) -> dict[str, Any]:
    return measure_first(make_home(folder), folder / "servers", runs=runs)


def _progress(folder: Path, runs: int) -> dict[str, Any]:
    return measure_progress(make_home(folder), folder / "servers", runs=runs)


def _warehouse(what: str) -> Part:
    """A part of `benchmarks.spark_warehouse`, on a workbench of its own."""

    def measure(folder: Path, runs: int) -> dict[str, Any]:
        home = make_home(folder)
        command = [sys.executable, "-m", "benchmarks.spark_warehouse", what, "--rounds", str(runs)]
        with running_workbench(home):
            done = subprocess.run(command, env=environment(home), check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])[what]
        return found

    return measure


PARTS: dict[str, Part] = {
    "first": _first,
    "server": measure_servers,
    "progress": _progress,
    **{what: _warehouse(what) for what in ("read", "pandas", "write", "stream")},
}


def figures(result: dict[str, Any]) -> Iterator[Figure]:
    """Medians beside their goals, and those of the peers."""
    if "first" in result:
        found = result["first"]["measured"]
        yield "first query of a new notebook, server up", statistics.median(found["up"]), "s", 2
        yield "the same, in the moment in which the kernel is there", statistics.median(found["up_at_once"]), "s", None
        yield "first query of a new notebook, server down", statistics.median(found["down"]), "s", 15
        yield "the same, classic PySpark", statistics.median(found["classic"]), "s", None
        for when, goal in (("before", 350), ("after", None)):
            resident = statistics.median(each["rss"] for each in found[f"memory_{when}_use"])
            yield f"resident memory of a Spark server {when} use", resident, "MB", goal
    if "progress" in result:
        found = {name: statistics.median(each) for name, each in result["progress"]["measured"].items()}
        yield "a query of ten seconds, progress shown", found["shown"], "s", None
        yield "the same, plain session of PySpark", found["plain"], "s", None
        yield "what the view costs", 100 * (found["shown"] / found["plain"] - 1), "%", 2
        yield "interrupt until the cell has ended", found["cancel"], "s", 2
    for what in ("read", "pandas", "write", "stream"):
        for lane, each in result.get(what, {}).get("measured", {}).items():
            yield f"{what}, {lane}", statistics.median(each["seconds"]), "s", None


if __name__ == "__main__":
    main()
