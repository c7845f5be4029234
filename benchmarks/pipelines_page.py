"""Pages of a store with ten thousand runs, as a browser and as a program ask the service for them, over HTTP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.pipelines_store import RUNS, STEPS, make_history
from benchmarks.times import in_milliseconds
from pipelines.store.records import NewRun, Trigger
from pipelines.store.runs.making import register
from tests.services.pipelines_project import Site, running_site
from tests.services.pipelines_service import running_service

REQUESTS = 10  #: of each page, in a round
PROGRAM = {"Authorization": "token viewer-token"}
ALL = f"{RUNS} runs by the API, in one answer"
PAGES = {
    "page of runs": "runs",
    "page of the pipeline": "pipelines/flights",
    "page of all pipelines": "",
    "page of 1000 runs": "runs?limit=1000",
    ALL: f"api/v1/runs?limit={RUNS}",
}


def measure_pages(folder: Path, runs: int) -> dict[str, Any]:
    """Milliseconds from the request until the whole answer is there; they take turns, `runs` rounds of ten.

    Raises:
        RuntimeError: when an answer has not all runs.
    """
    with running_site(folder) as site, running_service(site) as service:
        site.pipeline("flights", steps={"extract": {"sql": "sql/nothing.sql"}})
        site.file("sql/nothing.sql", "SELECT 1;")
        fill(site)
        client = service.browser("viewer").client
        found = len(client.get(PAGES[ALL], headers=PROGRAM).raise_for_status().json()["runs"])
        if found != RUNS:
            raise RuntimeError(f"{found} of {RUNS} runs were given")
        took: dict[str, list[float]] = {name: [] for name in PAGES}
        for run in range(runs + 1):
            for _ in range(REQUESTS if run else 1):
                for name, path in PAGES.items():
                    seconds = timed(client, path)
                    took[name] += [seconds] if run else []
        return {name: in_milliseconds(each) for name, each in took.items()}


def fill(site: Site) -> None:
    """Runs of three steps."""
    with site.store.transaction() as connection:
        sha256 = register(connection, "flights", {})
    make_history(site.store, NewRun(pipeline="flights", trigger=Trigger.MANUAL, definition_sha256=sha256, steps=STEPS))


def timed(client: httpx.Client, path: str) -> float:
    """Seconds of one request."""
    began = time.perf_counter()
    client.get(path, headers=PROGRAM if path.startswith("api/") else {}).raise_for_status()
    return time.perf_counter() - began
