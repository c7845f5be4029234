"""How fast pipelines are: notebooks, steps, pages, the store and schedules, each beside others where there are any.

    python -m benchmarks.pipelines [PART …] [--runs 3] [--output FILE]

Writes benchmarks/results/pipelines.json, where a part that is measured alone replaces only itself.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.machine import machine, measure_part
from benchmarks.pipelines_line import measure_lines
from benchmarks.pipelines_memory import measure_idle
from benchmarks.pipelines_notebook import cells, live, output, trivial
from benchmarks.pipelines_page import measure_pages
from benchmarks.pipelines_schedules import measure_schedules
from benchmarks.pipelines_steps import measure_steps
from benchmarks.pipelines_store import measure_store
from benchmarks.pipelines_systems import measure_systems

OUTPUT = Path(__file__).parent / "results" / "pipelines.json"


class Part(Protocol):
    """What measures one part, in an empty folder."""

    def __call__(self, folder: Path, runs: int) -> dict[str, Any]:
        """Measure *runs* times."""


PARTS: dict[str, Part] = {
    "trivial": trivial,
    "cells": cells,
    "output": output,
    "live": live,
    "systems": measure_systems,
    "steps": measure_steps,
    "line": measure_lines,
    "page": measure_pages,
    "idle": measure_idle,
    "store": measure_store,
    "schedules": measure_schedules,
}


def main() -> None:
    """Measure the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all, if none is named")
    parser.add_argument("--runs", type=int, default=3, help="rounds; of `schedules`, minutes")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    result: dict[str, Any] = json.loads(arguments.output.read_text("utf-8")) if arguments.output.exists() else {}
    result["machine"] = machine()
    for name in arguments.parts or PARTS:
        command = f"python -m benchmarks.pipelines {name} --runs {arguments.runs}"
        part = partial(PARTS[name], runs=arguments.runs)
        measure_part(result, name, part, command=command, output=arguments.output)
        print(name, json.dumps(result[name]["measured"], indent=2))


if __name__ == "__main__":
    main()
