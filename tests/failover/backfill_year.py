"""All days of 2013 as a backfill through the service: paused, resumed, and a worker killed in the midst of it.

    python -m tests.failover.backfill_year --days 365

The shipped pipeline `flights-of-a-day` and its notebook run over the real flights, with the store, the warehouse, a
scheduler, two workers and the service in processes of their own. All that is asked goes through the service's API, as
an editor's program asks it. At a third of the days it is paused: what runs ends, and nothing begins. It is resumed, and
at two thirds a worker that runs something is killed with SIGKILL and started again, as `workbench up` would.

Each day must then have one run, which succeeded; each step one attempt that succeeded, whose notebook is there and is
the only one of its run; and the table must equal what one query over all flights computes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pipelines import nycflights
from pipelines.states import State
from tests.services.pipelines_project import Site, running_site
from tests.services.pipelines_service import RunningService, running_service
from tests.services.pipelines_store import store_settings
from tests.services.workbench import wait_until
from workbench.resources import resource
from workbench.sections import WarehouseSettings
from workbench.warehouse.copy import replace_table

PIPELINE = "flights-of-a-day"
FILES = (f"pipelines/jobs/{PIPELINE}.yaml", f"notebooks/production/{PIPELINE}.ipynb", "pipelines/alerts.yaml")
FIRST = date(2013, 1, 1)
WORKERS = 2
QUIET_SECONDS = 5.0  # that nothing begins while it is paused
MOST_SECONDS_A_DAY = 60.0  # on a machine that does much else
MART = "SELECT day, carrier, flights, cancelled, mean_dep_delay_minutes, longest_dep_delay_minutes, miles"
# Rounded as the notebook does it, whose numbers are doubles.
DIRECT = """
SELECT make_date(year::int, month::int, day::int) AS day, carrier, count(*), count(*) FILTER (WHERE dep_time IS NULL),
  avg(dep_delay)::float8, max(dep_delay)::float8, sum(distance)::float8
FROM raw.flights WHERE make_date(year::int, month::int, day::int) <= '{until}'
GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass
class Crew:
    """Workers, of which one is killed."""

    site: Site
    workers: list[subprocess.Popen[bytes]]
    killed: int = 0  #: pid of the one that was

    def kill_one(self) -> bool:
        """Kill one that runs a step now, and start another; False when none does."""
        busy = self.site.ask("SELECT worker FROM pipelines.attempts WHERE ended_at IS NULL ORDER BY id DESC")
        pids = [int(str(worker).rsplit("-", 2)[1]) for (worker,) in busy]
        found = next((each for each in self.workers if each.pid in pids), None)
        if found is None:
            return False
        found.kill()
        found.wait(10)
        self.killed = found.pid
        self.workers[self.workers.index(found)] = self.site.start("pipelines.worker", SLOTS="2")
        return True


@contextmanager
def flights_site(folder: Path) -> Iterator[Site]:
    """A project with the shipped pipeline, and all flights in its warehouse."""
    with running_site(folder) as site:
        for name in FILES:
            to = folder / "project" / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(resource(name.split("/")[0]).parent / name, to)
        warehouse = store_settings(site.server, site.database).as_warehouse(WarehouseSettings())
        replace_table(warehouse, "raw.flights", nycflights.read_table("flights"))
        yield site


def run_backfill(site: Site, service: RunningService, days: int) -> tuple[int, list[str], float]:
    """Fill that many days; returns the number of the backfill, what went wrong on the way, and how many seconds it took."""
    crew = Crew(site, [site.start("pipelines.worker", SLOTS="2") for _ in range(WORKERS)])
    site.start("pipelines.scheduler")
    until = FIRST + timedelta(days=days - 1)
    asked = {"since": str(FIRST), "until": str(until), "slots": 2 * WORKERS}
    began = time.monotonic()
    made = call(service, "POST", f"/pipelines/{PIPELINE}/backfills", asked)
    number, problems = made["backfill"], []
    if made["runs"] != days:
        problems.append(f"{made['runs']} runs were made for {days} days")
    most = days * MOST_SECONDS_A_DAY
    wait_until(lambda: succeeded(service, number) >= days // 3, most, "a third of the days")
    problems += paused(service, number)
    wait_until(lambda: succeeded(service, number) >= 2 * days // 3, most, "two thirds of the days")
    wait_until(crew.kill_one, most, "a worker that runs something, to kill it")
    wait_until(lambda: not unfinished(service, number), most, "all days to end")
    seconds = time.monotonic() - began
    if not site.ask(f"SELECT 1 FROM pipelines.attempts WHERE state = 'lost' AND strpos(worker, '-{crew.killed}-') > 0"):
        problems.append("the worker that was killed has lost nothing: it was not in the midst of a step")
    return number, problems, seconds


def paused(service: RunningService, number: int) -> list[str]:
    """Pause it until what runs has ended and for a while more, and resume it; what is wrong with that."""
    call(service, "POST", f"/backfills/{number}/pause", {})
    wait_until(lambda: not states(service, number)[State.RUNNING], 120, "what runs to end")
    before, waiting = succeeded(service, number), states(service, number)[State.QUEUED]
    time.sleep(QUIET_SECONDS)  # it is shown that nothing happens, which no event tells
    after = succeeded(service, number)
    call(service, "POST", f"/backfills/{number}/resume", {})
    found = [] if before == after else [f"{after - before} days ended while it was paused"]
    return found if waiting else [*found, "nothing was left to wait while it was paused"]


def problems_of(site: Site, number: int, days: int) -> list[str]:
    """Everything of a backfill of so many days that is not as it has to be."""
    runs = site.ask(f"SELECT id, partition, state FROM pipelines.runs WHERE backfill_id = {number}")
    wanted = Counter(str(FIRST + timedelta(days=each)) for each in range(days))
    found = [f"{day} ended {state} in run {run}" for run, day, state in runs if state != State.SUCCEEDED]
    if Counter(str(day) for _, day, _ in runs) != wanted:
        found.append("not each day has one run")
    steps = site.ask(
        "SELECT s.run_id, s.output_path, array_agg(a.output_path) FROM pipelines.steps s JOIN pipelines.runs r "
        "ON r.id = s.run_id LEFT JOIN pipelines.attempts a ON a.step_id = s.id AND a.state = 'succeeded' "
        f"WHERE r.backfill_id = {number} GROUP BY s.id"
    )
    for run, output, outputs in steps:
        if outputs != [output] or site.published(int(str(run))) != [Path(str(output))]:
            found.append(f"run {run} has published {site.published(int(str(run)))}, and points to {output}")
    return found + table_problems(site, FIRST + timedelta(days=days - 1))


def table_problems(site: Site, until: date) -> list[str]:
    """How the table differs from one query over all flights."""
    table = site.ask(f"{MART} FROM marts.flights_of_a_day ORDER BY day, carrier")
    direct = site.ask(DIRECT.format(until=until))
    if [row[:4] for row in table] != [row[:4] for row in direct]:
        return [f"the table has {len(table)} rows that are not the {len(direct)} of one query"]
    numbers = (
        (mine, its)
        for row, other in zip(table, direct, strict=True)
        for mine, its in zip(row[4:], other[4:], strict=True)
    )
    wrong = sum(not is_same(mine, its) for mine, its in numbers)
    return [f"{wrong} numbers of the table are not those of one query"] if wrong else []


def is_same(rounded: Any, exact: Any) -> bool:
    """Whether one is the other rounded to two digits; None is only None."""
    if rounded is None or exact is None:
        return rounded is exact
    return abs(float(rounded) - float(exact)) <= 0.005 + 1e-9


def call(service: RunningService, method: str, path: str, body: Any = None) -> Any:
    """What the service answers to an editor."""
    answer = service.api("editor", method, path, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def states(service: RunningService, number: int) -> Counter[str]:
    """How many runs of the backfill there are by state."""
    listed = call(service, "GET", "/backfills")["backfills"]
    return Counter(next(each["states"] for each in listed if each["id"] == number))


def succeeded(service: RunningService, number: int) -> int:
    return states(service, number)[State.SUCCEEDED]


def unfinished(service: RunningService, number: int) -> int:
    found = states(service, number)
    return found[State.QUEUED] + found[State.RUNNING]


def main() -> None:
    """Fill as many days as asked for; exit 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365, help="from 2013-01-01 on, at least 9")
    days = parser.parse_args().days
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        flights_site(Path(folder) / "site") as site,
        running_service(site) as service,
    ):
        number, problems, seconds = run_backfill(site, service, days)
        problems += problems_of(site, number, days)
        done = succeeded(service, number)
        attempts = site.ask("SELECT state, count(*) FROM pipelines.attempts GROUP BY 1 ORDER BY 1")
    print(f"{done} of {days} days succeeded in {seconds:.1f} s, {seconds / days:.2f} s for each; attempts: {attempts}")
    print("WRONG " + "; ".join(problems) if problems else "each day once, and the table is that of one query")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
