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
from tests.services.pipelines_service import RunningService, running_service

REQUESTS = 10  #: of each page, in a round
MOST = 1000  #: of an answer, as the service allows it
PAGES = {
    "page of runs": "runs",
    "page of the pipeline": "pipelines/flights",
    "page of all pipelines": "",
    f"page of {MOST} runs": f"runs?limit={MOST}",
}


def measure_pages(folder: Path, runs: int) -> dict[str, Any]:
    """Milliseconds from the request until the whole answer is there; the pages take turns, `runs` rounds of ten.

    `all runs` is what a program does that wants them all: one request after another, a thousand runs in each.
    """
    with running_site(folder) as site, running_service(site) as service:
        site.pipeline("flights", steps={"extract": {"sql": "sql/nothing.sql"}})
        site.file("sql/nothing.sql", "SELECT 1;")
        fill(site)
        took: dict[str, list[float]] = {name: [] for name in (*PAGES, f"all {RUNS} runs")}
        client = service.browser("viewer").client
        for run in range(runs + 1):
            for _ in range(REQUESTS if run else 1):
                for name, path in PAGES.items():
                    seconds = timed(client, path)
                    took[name] += [seconds] if run else []
                seconds = all_runs(service)
                took[f"all {RUNS} runs"] += [seconds] if run else []
        return {name: in_milliseconds(each) for name, each in took.items()}


def fill(site: Site) -> None:
    """Runs of three steps."""
    with site.store.transaction() as connection:
        sha256 = register(connection, "flights", {})
    make_history(site.store, NewRun(pipeline="flights", trigger=Trigger.MANUAL, definition_sha256=sha256, steps=STEPS))


def timed(client: httpx.Client, path: str) -> float:
    """Seconds of one request."""
    began = time.perf_counter()
    client.get(path).raise_for_status()
    return time.perf_counter() - began


def all_runs(service: RunningService) -> float:
    """Seconds in which a program reads them all.

    Raises:
        RuntimeError: when it is not given all of them.
    """
    headers = {"Authorization": "token viewer-token"}
    found: list[int] = []
    with httpx.Client(base_url=f"{service.url}api/v1/", headers=headers, trust_env=False, timeout=60) as client:
        began = time.perf_counter()
        while True:
            before = {"before": found[-1]} if found else {}
            answer = client.get("runs", params={"limit": MOST, **before}).raise_for_status().json()["runs"]
            found += [each["id"] for each in answer]
            if len(answer) < MOST:
                break
        seconds = time.perf_counter() - began
    if len(found) != RUNS:
        raise RuntimeError(f"{len(found)} of {RUNS} runs were read")
    return seconds
