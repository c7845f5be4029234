"""From a step to the next: by a real worker on a real store, and between Prefect's tasks, in turns."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from textwrap import indent
from typing import Any

from benchmarks.peers.prefect import Prefect, running_prefect, version
from benchmarks.times import in_milliseconds
from tests.services.pipelines_project import Site, running_site

STEPS = 8
BUSY_SECONDS = 2.0  # in which the process or kernel for the next step is there, even on a slow machine
# The first line and the last, by the clock that the database has as well.
TIMED = """import time
begun = time.time()
time.sleep({seconds})
open({path!r}, "a").write(f"[{{begun}}, {{time.time()}}]\\n")"""


def measure_steps(folder: Path, runs: int) -> dict[str, Any]:
    """Milliseconds from a step to the first line of the next one, in runs of eight steps in a row.

    `after_code` begins with the last line of the step before, and so has the keeping of its output in it;
    `after_end` begins with the end of that step in the store. Steps that take no time are each followed by
    the start of a process or kernel; those of two seconds find one that waits. A run before the first is not counted.
    """
    (folder / "site").mkdir()
    gaps: dict[str, list[float]] = {}
    with running_site(folder / "site") as site, site.worker(), running_prefect(folder) as prefect:
        names = make_pipelines(site)
        for run in range(runs + 1):
            for name, each in in_turns(site, names, prefect).items():
                gaps.setdefault(name, []).extend(each if run else ())
    return {"prefect_is": version(), **{name: in_milliseconds(each) for name, each in gaps.items()}}


def make_pipelines(site: Site) -> list[str]:
    """Chains of functions and of notebooks, whose steps take no time or two seconds; returns their names."""
    names = []
    for prefix, seconds in {"": 0.0, "-busy": BUSY_SECONDS}.items():
        for kind in ("function", "notebook"):
            name = f"{kind}{prefix}"
            source = TIMED.format(path=str(times_of(site, name)), seconds=seconds)
            if kind == "function":
                module = name.replace("-", "_")
                site.module(module, "def timed() -> None:\n" + indent(source, "    ") + "\n")
                target = {"function": f"{module}:timed"}
            else:
                site.notebook(name, source)
                target = {"notebook": f"notebooks/{name}.ipynb"}
            after = [{"after": [f"s{number}"]} if number >= 0 else {} for number in range(-1, STEPS - 1)]
            site.pipeline(name, steps={f"s{number}": {**target, **each} for number, each in enumerate(after)})
            names.append(name)
    return names


def in_turns(site: Site, names: list[str], prefect: Prefect) -> dict[str, list[float]]:
    """Seconds, of one run of each.

    Raises:
        RuntimeError: when one has not succeeded.
    """
    found = {}
    for name in names:
        times_of(site, name).unlink(missing_ok=True)
        page = site.run(name).page
        if page.run["state"] != "succeeded":
            raise RuntimeError(f"the pipeline {name} has ended {page.run['state']}")
        times = [json.loads(line) for line in times_of(site, name).read_text(encoding="utf-8").splitlines()]
        ends = [each["ended_at"].timestamp() for each in page.attempts]
        found[f"{name}_after_code"] = [begun - ended for (_, ended), (begun, _) in pairwise(times)]
        found[f"{name}_after_end"] = [begun - end for end, (begun, _) in zip(ends, times[1:], strict=False)]
    found["prefect"] = prefect.gaps(STEPS)
    return found


def times_of(site: Site, name: str) -> Path:
    """Where the steps of a pipeline write when they ran."""
    return site.folder / f"{name}.times"
