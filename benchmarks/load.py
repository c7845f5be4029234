"""The workbench as it is started, under load: many people at its pages, queries, records that keep coming, notebooks.

    python -m benchmarks.load [--people 10,25,50] [--seconds 60]

`workbench up` in an empty home, with the flights of the demo. For each number of people, all at once for so many seconds:

- *people*: Locust's users sign in, each with a browser of its own, and look at a page each second on average;
- *queries*: two threads aggregate the flights through the library, half a second after the last answer;
- *records*: 5,000 a second are sent to a topic that a flow follows; the age of each when it was committed;
- *runs*: a pipeline is run, its three notebooks one after another, over and over;
- *ready*: the hub's readiness and the warehouse's, each 250 ms.

The clients share the two cores with all they ask. Writes benchmarks/results/load.json and prints each figure beside the goal of
the plan: answers below a second, less than 1 % errors, 99.9 % available.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.conditions import has_begun, send_steadily, start_worker
from benchmarks.machine import machine, measure_part
from benchmarks.peers.environment import ensure_environment, pinned_version
from benchmarks.peers.records import Load, connect, create_topic
from hub.demo_identity.people import PEOPLE
from tests.services.workbench import RunningWorkbench, make_home, run, running_workbench, wait_until
from workbench.errors import WorkbenchError
from workbench.settings import Settings
from workbench.warehouse.engine import read_frame

RESULTS = Path(__file__).parent / "results" / "load.json"
LOCUST_FILE = Path(__file__).parent / "load_people.py"
RECORDS_PER_SECOND = 5_000
QUERIES_AT_ONCE = 2
QUERY_PAUSE_SECONDS = 0.5
READY_EVERY_SECONDS = 0.25
QUERY = """
    SELECT a.name, count(*) AS flights, avg(f.dep_delay) AS delay
    FROM raw.flights f JOIN raw.airlines a USING (carrier)
    WHERE f.month = :month GROUP BY a.name ORDER BY flights DESC
"""
GOALS = {"p95_seconds": 1.0, "error_percent": 1.0, "ready_percent": 99.9}


@dataclass
class Asked:
    """Answers and errors of one kind of question."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def ask(self, question: Callable[[], object]) -> None:
        """Ask once, and note how long it took or what was wrong."""
        began = time.perf_counter()
        try:
            question()
        except (WorkbenchError, httpx.HTTPError, AssertionError) as error:
            self.errors.append(f"{type(error).__name__}: {error}"[:200])
        else:
            self.seconds.append(time.perf_counter() - began)

    def figures(self) -> dict[str, Any]:
        """Of what was answered: how many, and percentiles in seconds; and the share of errors."""
        asked = len(self.seconds) + len(self.errors)
        found = {f"p{each}_seconds": round(float(np.percentile(self.seconds, each)), 3) for each in (50, 95, 99)}
        return {
            "asked": asked,
            **found,
            "error_percent": round(100 * len(self.errors) / asked, 3),
            "errors": self.errors[:5],
        }


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", default="10,25,50")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "locust": pinned_version("locust", "locust")}
    with tempfile.TemporaryDirectory() as folder, loaded_workbench(Path(folder)) as (workbench, settings):
        for people in map(int, arguments.people.split(",")):
            measure_part(
                result,
                f"{people} people",
                partial(measure, workbench, settings, people, arguments.seconds),
                command=f"python -m benchmarks.load --people {people} --seconds {arguments.seconds}",
                output=arguments.output,
            )
            tell(people, result[f"{people} people"]["measured"])


@contextmanager
def loaded_workbench(folder: Path) -> Iterator[tuple[RunningWorkbench, Settings]]:
    """`workbench up` with the flights of the demo."""
    home = make_home(folder)
    with running_workbench(home, until="pipelines-service") as workbench:
        done = run("demo", home=home, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        os.environ["WORKBENCH_HOME"] = str(home)
        yield workbench, Settings.load()


def measure(workbench: RunningWorkbench, settings: Settings, people: int, seconds: int, work: Path) -> dict[str, Any]:
    """Everything at once, for so many seconds."""
    queries, ready, runs = Asked(), Asked(), Asked()
    load = Load(
        kafka=settings.kafka, warehouse=settings.warehouse, topic=f"load-{people}-{time.time_ns()}", records=0,
        table=f"load_{people}",
    )  # fmt: skip
    create_topic(load.connection, load.topic)
    with start_worker("follow", load, work / "flow") as flow, ThreadPoolExecutor(8) as pool:
        wait_until(lambda: has_begun(load), 60, "the flow to claim its partitions")
        over = threading.Event()
        numbers = count()
        sent = pool.submit(send_steadily, load, seconds, RECORDS_PER_SECOND)
        for _ in range(QUERIES_AT_ONCE):
            pool.submit(_over_and_over, over, QUERY_PAUSE_SECONDS, queries, lambda: _query(settings, next(numbers)))
        pool.submit(_over_and_over, over, 0.0, runs, lambda: _run(workbench, next(numbers)))
        pool.submit(_over_and_over, over, READY_EVERY_SECONDS, ready, lambda: _is_ready(workbench, settings))
        try:
            pages = _visit(workbench, people, seconds)
        finally:
            over.set()
        sent.result()
        wait_until(lambda: _rows(load) >= RECORDS_PER_SECOND * seconds, 60, "the flow to be at the end of its topic")
        flow.send_signal(signal.SIGTERM)
        flow.wait(60)
    ages = np.load(work / "flow" / "ages.npy")
    return {
        "pages": pages,
        "queries": queries.figures(),
        "runs": runs.figures(),
        "ready_percent": round(100 * len(ready.seconds) / (len(ready.seconds) + len(ready.errors)), 3),
        "not_ready": ready.errors[:5],
        "records": len(ages),
        "records_sent": RECORDS_PER_SECOND * seconds,
        "record_age_seconds": {f"p{each}": round(float(np.percentile(ages, each)), 3) for each in (50, 95, 99, 100)},
    }


def tell(people: int, found: dict[str, Any]) -> None:
    """Print the figures that have a goal, and the others beside them."""
    for what in ("pages", "queries", "runs"):
        print(f"{people:>3} people, {what:<8}", found[what], flush=True)
    records = f"{found['records']} of {found['records_sent']} records, age {found['record_age_seconds']}"
    print(f"{people:>3} people, ready {found['ready_percent']} %, {records}; goals: {GOALS}", flush=True)


def _over_and_over(over: threading.Event, pause_seconds: float, asked: Asked, question: Callable[[], object]) -> None:
    while not over.is_set():
        asked.ask(question)
        over.wait(pause_seconds)


def _query(settings: Settings, number: int) -> None:
    rows = read_frame(settings.warehouse, QUERY, {"month": number % 12 + 1})
    assert len(rows) > 10, rows


def _run(workbench: RunningWorkbench, number: int) -> None:
    day = date(2013, 1, 1) + timedelta(days=number % 365)
    done = run("pipelines", "run", "flights-of-a-day", "-p", f"day={day}", "--wait", home=workbench.home)
    assert done.returncode == 0, done.stdout + done.stderr


def _is_ready(workbench: RunningWorkbench, settings: Settings) -> None:
    assert httpx.get(f"{workbench.url}/hub/readyz", trust_env=False, timeout=5).status_code == 200
    assert len(read_frame(settings.warehouse, "SELECT 1 AS one", {})) == 1


def _rows(load: Load) -> int:
    with connect(load.warehouse) as connection:
        found = connection.execute(f"SELECT count(*) FROM {load.schema}.{load.table}").fetchone()
    return int(found[0]) if found else 0


def _visit(workbench: RunningWorkbench, people: int, seconds: int) -> dict[str, Any]:
    """What Locust found, of every page together and of each."""
    command: list[str | Path] = [
        ensure_environment("locust"), "-m", "locust", "--headless", "--json", "--only-summary", "--skip-log-setup",
        *("-f", LOCUST_FILE, "-H", workbench.url, "-u", str(people), "-r", str(people), "-t", f"{seconds}s"),
    ]  # fmt: skip
    logins = ",".join(person.login for person in PEOPLE if person.belongs)
    environment = {**os.environ, "LOAD_CODE": workbench.sign_in_code, "LOAD_LOGINS": logins}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds + 120, check=False)
    pages = json.loads(done.stdout)
    whole = _percentiles(pages)
    return {**whole, "requests_per_second": round(whole["asked"] / seconds, 1), "each": {
        page["name"]: _percentiles([page]) for page in sorted(pages, key=lambda page: page["name"])
    }}  # fmt: skip


def _percentiles(pages: list[dict[str, Any]]) -> dict[str, Any]:
    """Locust keeps how often each length, in milliseconds of two digits, was seen."""
    seen: Counter[float] = Counter()
    for page in pages:
        seen.update({float(length): times for length, times in page["response_times"].items()})
    lengths = np.repeat(np.array(list(seen)), list(seen.values()))
    asked, failed = (sum(page[name] for page in pages) for name in ("num_requests", "num_failures"))
    found = {f"p{each}_seconds": round(float(np.percentile(lengths, each)) / 1000, 3) for each in (50, 95, 99)}
    return {"asked": asked, **found, "error_percent": round(100 * failed / asked, 3)}


if __name__ == "__main__":
    main()
