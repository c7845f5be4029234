"""How late runs are made when ten thousand pipelines have a schedule each: by one scheduler, on a real store.

    python -m benchmarks.pipelines_schedules [--schedules 10000] [--minutes 3]

Each pipeline is due once an hour, every minute a sixtieth of them at the same instant. A run counts as
made once a worker could claim it: when another connection sees it committed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from benchmarks.times import in_milliseconds
from tests.services.pipelines_project import Site, running_site
from tests.services.workbench import wait_until

SCHEDULES = 10_000
MINUTES_IN_AN_HOUR = 60
READY_SECONDS = 200
LOOK_SECONDS = 0.005
UNREAD = "SELECT id, extract(epoch FROM instant) FROM pipelines.runs WHERE id > %(last)s ORDER BY id"


def main() -> None:
    """Print how long taking over the files took, how late runs were, and what the scheduler needs meanwhile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=SCHEDULES)
    parser.add_argument("--minutes", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure_schedules(Path(folder), arguments.minutes, arguments.schedules)
    print(json.dumps(measured, indent=2))


def measure_schedules(folder: Path, runs: int, schedules: int = SCHEDULES) -> dict[str, Any]:
    """All figures, over *runs* whole minutes; how late runs are is in milliseconds."""
    with running_site(folder) as site:
        site.module("work", "def nothing() -> None:\n    pass\n")
        for number in range(schedules):
            schedule = {"cron": f"{number % MINUTES_IN_AN_HOUR} * * * *", "zone": "UTC"}
            site.pipeline(f"p{number:05}", schedule=schedule, steps={"work": {"function": "work:nothing"}})
        began = time.perf_counter()
        scheduler = psutil.Process(site.start("pipelines.scheduler").pid)
        wait_until(lambda: count(site, "schedules") == schedules, READY_SECONDS, "all schedules to be there")
        taken_over = time.perf_counter() - began
        cpu, wall = busy(scheduler), time.perf_counter()
        lateness = watch(site, runs)
        used = (busy(scheduler) - cpu) / (time.perf_counter() - wall)
        return {
            "files": schedules,
            "seconds_from_the_start_of_the_scheduler_until_all_are_taken_over": round(taken_over, 2),
            "due_at_once": len(lateness) // runs,
            "late": in_milliseconds(lateness),
            "part_of_a_core": round(used, 3),
            "megabytes_of_its_own": round(scheduler.memory_full_info().uss / 1e6),
        }


def watch(site: Site, minutes: int) -> list[float]:
    """Seconds from the instant of each run of so many whole minutes until it was seen."""
    lateness: list[float] = []
    with site.store.transaction() as connection:
        last = connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM pipelines.runs").scalar_one()
    first = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    end = (first + timedelta(minutes=minutes, seconds=-5)).timestamp()
    while time.time() < end:
        with site.store.transaction() as connection:
            found = connection.exec_driver_sql(UNREAD, {"last": last}).all()
        seen = time.time()
        lateness += [seen - float(instant) for _, instant in found if instant >= first.timestamp()]
        last = max([last, *(number for number, _ in found)])
        time.sleep(LOOK_SECONDS)
    return lateness


def count(site: Site, table: str) -> int:
    """How many rows there are."""
    return int(str(site.ask(f"SELECT count(*) FROM pipelines.{table}")[0][0]))


def busy(process: psutil.Process) -> float:
    """Seconds of processor time so far."""
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
