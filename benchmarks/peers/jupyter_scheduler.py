"""jupyter-scheduler as JupyterLab has it: a Jupyter server with its extension, asked over HTTP as its page asks.

A job is copied, run by `DefaultExecutionManager` in a process that the server starts for it, and recorded in SQLite.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.peers.environment import ensure_environment, pinned_version
from benchmarks.peers.processes import running, wait_for_notebook
from benchmarks.pipelines_notebook import written
from tests.services.workbench import wait_until
from workbench.runtime.ports import LOOPBACK, any_free

NAME = "jupyter-scheduler"
UP_SECONDS = 120
SETTINGS = ("--no-browser", "--ServerApp.allow_root=True", "--ServerApp.open_browser=False")


@contextmanager
def running_jupyter_scheduler(folder: Path) -> Iterator[Callable[[Path, list[str]], float]]:
    """A lane: seconds from the request for a job until its output is there whole.

    Args:
        folder: the server's root, below which the lane's folders are.
    """
    python = ensure_environment(NAME)
    port, token, home = any_free(), secrets.token_urlsafe(), folder / NAME
    home.mkdir()
    command = [str(python), "-m", "jupyter_server", *SETTINGS, f"--ServerApp.ip={LOOPBACK}", f"--port={port}"]
    root = f"--ServerApp.root_dir={folder}"
    with (
        running("server", [*command, root], home, {"JUPYTER_TOKEN": token}) as process,
        httpx.Client(
            base_url=f"http://{LOOPBACK}:{port}",
            headers={"Authorization": f"token {token}"},
            trust_env=False,
            timeout=60,
        ) as client,
    ):

        def answers() -> bool:
            process.demand_alive()
            try:
                return client.get("/scheduler/runtime_environments").is_success
            except httpx.TransportError:
                return False

        wait_until(answers, UP_SECONDS, NAME)
        environment = client.get("/scheduler/runtime_environments").json()[0]["name"]

        def lane(lane_folder: Path, cells: list[str]) -> float:
            job = {
                "name": "work",
                "input_uri": str(written(lane_folder, cells).relative_to(folder)),
                "runtime_environment_name": environment,
                "output_formats": ["ipynb"],
            }
            began = time.perf_counter()
            made = client.post("/scheduler/jobs", json=job).raise_for_status().json()["job_id"]
            staging = home / ".local" / "share" / "jupyter" / "scheduler_staging_area" / made
            return wait_for_notebook(staging, "work-*.ipynb", process, began)

        yield lane


def version() -> str:
    """What it is."""
    return f"jupyter-scheduler {pinned_version(NAME, 'jupyter-scheduler')}"
