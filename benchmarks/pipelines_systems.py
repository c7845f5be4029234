"""One notebook by systems that keep runs: each is up and has nothing to do until it is asked, in turns.

Beside them papermill alone, which keeps nothing. Each notebook counts once it is there whole, with its outputs.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from benchmarks.peers import airflow, jupyter_scheduler, prefect
from benchmarks.peers.processes import LOOK_SECONDS, RUN_SECONDS
from benchmarks.pipelines_notebook import LOUD, LOUD_CELLS, Lane, in_turns, papermill_saved
from tests.services.pipelines_project import Site, running_site
from tests.services.pipelines_service import RunningService, running_service

NOTEBOOKS = {"trivial": ["1 + 1"], "output": [LOUD] * LOUD_CELLS}


def measure_systems(folder: Path, runs: int) -> dict[str, Any]:
    """Seconds from asking until the notebook is there; of one cell, and of 50 cells that put out 200 kB each."""
    (folder / "site").mkdir()
    with ExitStack() as stack:
        site = stack.enter_context(running_site(folder / "site"))
        stack.enter_context(site.worker())
        running = stack.enter_context(running_service(site))
        lanes: dict[str, Lane] = {
            "workbench": Workbench(site, stack.enter_context(program_of(running))).execute,
            "jupyter_scheduler": stack.enter_context(jupyter_scheduler.running_jupyter_scheduler(folder)),
            "prefect": stack.enter_context(prefect.running_prefect(folder)).execute,
            "airflow": stack.enter_context(airflow.running_airflow(folder)),
            "papermill": papermill_saved,
        }
        measured: dict[str, Any] = {}
        for name, cells in NOTEBOOKS.items():
            (folder / name).mkdir()
            measured[name] = in_turns(folder / name, lanes, cells, runs)
    versions = {each.NAME: each.version() for each in (jupyter_scheduler, prefect, airflow)}
    return {"versions": versions, **measured}


def program_of(service: RunningService) -> httpx.Client:
    """A program that may run pipelines."""
    headers = {"Authorization": "token runner-token"}
    return httpx.Client(base_url=f"{service.url}api/v1/", headers=headers, trust_env=False, timeout=60)


class Workbench:
    """The service, asked over HTTP as a program asks, with a worker of two slots and a PostgreSQL that has `fsync` on."""

    def __init__(self, site: Site, client: httpx.Client) -> None:
        self._site, self._client = site, client

    def execute(self, folder: Path, cells: list[str]) -> float:
        """Seconds from the request for a run until its output is published.

        Raises:
            RuntimeError: when there is none.
        """
        self._site.notebook("work", *cells)
        self._site.pipeline("work", steps={"a": {"notebook": "notebooks/work.ipynb"}})
        began = time.perf_counter()
        answer = self._client.post("pipelines/work/runs", json={}).raise_for_status()
        run = answer.json()["run"]
        while not self._site.published(run):
            if time.perf_counter() - began > RUN_SECONDS:
                raise RuntimeError(f"run {run} has no output after {RUN_SECONDS} s")
            time.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - began
        ended = self._site.ended(run).page.run["state"]
        if ended != "succeeded":
            raise RuntimeError(f"run {run} has ended {ended}")
        return seconds
