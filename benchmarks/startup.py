"""How long a person waits: for the login page, for the first answer of Spark, for the demo; and what idling costs.

    python -m benchmarks.startup [--runs 3]

Each run starts a workbench of its own on a WORKBENCH_HOME that has been started once before
(a warm checkout: jars fetched, data folders made). The first query of Spark is measured in a
fresh Python process, once on the warm Connect server and once on a classic local session,
which is what a notebook without the workbench has; the two alternate. Writes
benchmarks/results/startup.json and prints a table of medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import machine
from tests.services.workbench import (
    COMMAND,
    RunningWorkbench,
    environment,
    is_running,
    make_home,
    run,
    stop,
    wait_until,
)

RESULTS = Path(__file__).parent / "results" / "startup.json"
GOALS = {
    "up_to_login_page_seconds": 25,
    "idle_memory_megabytes": 1600,
    "first_spark_count_seconds": 2,
    "demo_seconds": 120,
    "demo_again_seconds": None,
    "peer_classic_spark_count_seconds": None,
}
CONNECT = "import workbench; assert workbench.spark().range(10).count() == 10"
CLASSIC = (
    "from pyspark.sql import SparkSession;"
    "assert SparkSession.builder.master('local[2]').config('spark.ui.enabled', False).getOrCreate().range(10).count() == 10"
)


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder))
        measure_run(home, keep=False)
        measured = [measure_run(home, keep=True) for _ in range(runs)]
    figures = {name: [each[name] for each in measured] for name in measured[0]}
    figures["demo_seconds"] = [measure_demo() for _ in range(runs)]
    result = {"machine": machine(), "command": f"python -m benchmarks.startup --runs {runs}", "measured": figures}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, values in sorted(figures.items()):
        goal = f"(goal: at most {GOALS[name]})" if GOALS.get(name) else ""
        print(f"{name:<34} median {statistics.median(values):8.2f}   of {values}  {goal}")


def measure_run(home: Path, *, keep: bool) -> dict[str, float]:
    """Start, measure idle, ask Spark from fresh processes, run the demo's second time, stop."""
    started = time.perf_counter()
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen([COMMAND, "up"], env=environment(home), stdout=log, stderr=log, cwd=home)
    workbench = RunningWorkbench(home, process)
    try:
        url = wait_for_login_page(home, started)
        login_page = time.perf_counter() - started
        print(f"login page at {url} after {login_page:.1f} s", flush=True)
        wait_until(lambda: is_running(workbench, "spark"), 180, "spark to run")
        time.sleep(10 if keep else 0)  # what the start leaves running ends; idle means idle
        idle = idle_megabytes(process.pid)
        connect, classic = (timed(partial(python, home, code)) for code in (CONNECT, CLASSIC))
        again = timed(lambda: run("demo", home=home, timeout=600)) if keep else 0.0
        if not keep:
            run("demo", home=home, timeout=600)
    finally:
        stop(workbench)
    return {
        "up_to_login_page_seconds": round(login_page, 2),
        "idle_memory_megabytes": round(idle),
        "first_spark_count_seconds": round(connect, 2),
        "peer_classic_spark_count_seconds": round(classic, 2),
        "demo_again_seconds": round(again, 2),
    }


def measure_demo() -> float:
    """`workbench demo` with nothing running and no data: it starts the servers itself, and stops them."""
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder))
        return round(timed(lambda: run("demo", home=home, timeout=600)), 2)


def wait_for_login_page(home: Path, started: float) -> str:
    """Ask for the login page until it answers; returns the address of the hub."""
    while time.perf_counter() - started < 180:
        try:
            ports = json.loads((home / "run" / "hub.json").read_text(encoding="utf-8"))
            url = f"http://127.0.0.1:{ports['proxy']}"
            with urllib.request.urlopen(f"{url}/hub/login", timeout=1) as page:
                if page.status == 200:
                    return url
        except (OSError, ValueError):
            time.sleep(0.05)
    raise TimeoutError("no login page within 180 s")


def idle_megabytes(pid: int) -> float:
    """Proportional set size of the workbench and all that it started."""
    process = psutil.Process(pid)
    return sum(each.memory_full_info().pss for each in (process, *process.children(recursive=True))) / 1e6


def python(home: Path, code: str) -> None:
    """Run *code* in a fresh interpreter."""
    subprocess.run([sys.executable, "-c", code], env=environment(home), check=True, capture_output=True, cwd=home)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that *work* takes; a command that fails is no measurement."""
    started = time.perf_counter()
    done = work()
    if isinstance(done, subprocess.CompletedProcess):
        done.check_returncode()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
