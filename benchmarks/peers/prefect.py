"""Prefect 3 with an API server of its own that runs already: flows are called in a process that has imported all.

No worker, no deployment: those look for work every few seconds and start a process for each run. Telemetry is off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx

from benchmarks.peers.environment import PEERS, ensure_environment, pinned_version
from benchmarks.peers.processes import PeerProcess, running, wait_for_notebook
from benchmarks.pipelines_notebook import written
from tests.services.workbench import wait_until
from workbench.runtime.ports import LOOPBACK, any_free

NAME = "prefect"
UP_SECONDS = 120


@dataclass(frozen=True)
class Prefect:
    """One that runs."""

    flows: PeerProcess

    def execute(self, folder: Path, cells: list[str]) -> float:
        """A lane: seconds from the call of a flow, whose task runs papermill, until the output is there whole."""
        question = {"notebook": str(written(folder, cells)), "output": str(folder / "out.ipynb")}
        began = time.perf_counter()
        self.flows.tell(question)
        seconds = wait_for_notebook(folder, "out.ipynb", self.flows, began)
        self.flows.hear()
        return seconds

    def gaps(self, tasks: int) -> list[float]:
        """Seconds between the last line of a task and the first of the next, in a flow of so many in a row."""
        self.flows.tell({"tasks": tasks})
        times: list[tuple[float, float]] = self.flows.hear()["times"]
        return [begun - ended for (_, ended), (begun, _) in pairwise(times)]


@contextmanager
def running_prefect(folder: Path) -> Iterator[Prefect]:
    """The server, and the process that calls flows."""
    python, port = ensure_environment(NAME), any_free()
    home = folder / NAME
    home.mkdir()
    url = f"http://{LOOPBACK}:{port}/api"
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    server = [str(python.parent / "prefect"), "server", "start", "--host", LOOPBACK, "--port", str(port), "--no-ui"]
    flows = [str(python), "-P", str(PEERS / "prefect_flows.py")]  # else this module would be what it imports
    with running("server", server, home, environment) as process:
        wait_until(_answers(url, process), UP_SECONDS, NAME)
        with running("flows", flows, home, environment, talks=True) as called:
            called.hear()
            yield Prefect(called)


def version() -> str:
    """What it is."""
    return f"Prefect {pinned_version(NAME, 'prefect')}, papermill {pinned_version(NAME, 'papermill')}"


def _answers(url: str, process: PeerProcess) -> Callable[[], bool]:
    def answers() -> bool:
        process.demand_alive()
        try:
            return httpx.get(f"{url}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    return answers
