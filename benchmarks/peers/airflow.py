"""Airflow 3 as `airflow standalone` has it, without the triggerer: API server, scheduler with LocalExecutor, DAG processor, SQLite.

A run is asked for over its REST API. Its task, in a process that the executor starts, calls papermill.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from benchmarks.peers.environment import ensure_environment, pinned_version
from benchmarks.peers.processes import PeerProcess, running, wait_for_notebook
from benchmarks.pipelines_notebook import written
from tests.services.workbench import wait_until
from workbench.runtime.ports import LOOPBACK, any_free

NAME = "airflow"
UP_SECONDS = 240
COMPONENTS = ("api-server", "scheduler", "dag-processor")
DAG = """
import pendulum
from airflow.sdk import DAG, task

with DAG("work", schedule=None, start_date=pendulum.datetime(2026, 1, 1), catchup=False):

    @task
    def execute(dag_run=None):
        import papermill

        papermill.execute_notebook(dag_run.conf["notebook"], dag_run.conf["output"], progress_bar=False)

    execute()
"""


@contextmanager
def running_airflow(folder: Path) -> Iterator[Callable[[Path, list[str]], float]]:
    """A lane: seconds from the request for a run until the notebook that its task makes is there whole."""
    program = ensure_environment(NAME).parent / "airflow"
    home, port = folder / NAME, any_free()
    (home / "dags").mkdir(parents=True)
    (home / "dags" / "work.py").write_text(DAG, encoding="utf-8")
    environment = settings(home, port)
    with running("migration", [str(program), "db", "migrate"], home, environment) as process:
        process.wait(UP_SECONDS)
    with ExitStack() as stack:
        processes = [stack.enter_context(running(each, [str(program), each], home, environment)) for each in COMPONENTS]
        client = stack.enter_context(httpx.Client(base_url=f"http://{LOOPBACK}:{port}", trust_env=False, timeout=60))
        wait_until(lambda: knows_dag(client, processes), UP_SECONDS, NAME)
        number = iter(range(1_000_000))

        def lane(lane_folder: Path, cells: list[str]) -> float:
            conf = {"notebook": str(written(lane_folder, cells)), "output": str(lane_folder / "out.ipynb")}
            name = f"run-{next(number)}"
            run = {"dag_run_id": name, "logical_date": None, "conf": conf}
            began = time.perf_counter()
            client.post("/api/v2/dags/work/dagRuns", json=run).raise_for_status()
            seconds = wait_for_notebook(lane_folder, "out.ipynb", processes[1], began)
            wait_until(lambda: has_ended(client, name), UP_SECONDS, "the end of the run")
            return seconds

        yield lane


def settings(home: Path, port: int) -> dict[str, str]:
    """Variables: everybody who reaches the port on loopback is an administrator, and nothing is told to anybody."""
    url = f"http://{LOOPBACK}:{port}"
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(any_free()),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def knows_dag(client: httpx.Client, processes: list[PeerProcess]) -> bool:
    """Whether the API answers and the DAG was parsed; signs in on the way."""
    for each in processes:
        each.demand_alive()
    try:
        if "Authorization" not in client.headers:
            token = client.get("/auth/token").raise_for_status().json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
        return client.get("/api/v2/dags/work").is_success
    except httpx.HTTPError:
        return False


def has_ended(client: httpx.Client, run: str) -> bool:
    """Whether the run has succeeded.

    Raises:
        RuntimeError: when it has failed.
    """
    state = client.get(f"/api/v2/dags/work/dagRuns/{run}").raise_for_status().json()["state"]
    if state == "failed":
        raise RuntimeError(f"Airflow's {run} has failed")
    return bool(state == "success")


def version() -> str:
    """What it is."""
    return f"Airflow {pinned_version(NAME, 'apache-airflow')}, papermill {pinned_version(NAME, 'papermill')}"
