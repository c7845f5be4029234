"""Calls flows as it is asked to, a line of JSON for each; run by the Python of Prefect."""

import json
import sys
import time
from typing import Any

import papermill
from prefect import flow, task


@task
def execute(notebook: str, output: str) -> None:
    """A notebook, by papermill."""
    papermill.execute_notebook(notebook, output, progress_bar=False)


@flow
def one_notebook(notebook: str, output: str) -> None:
    """One task."""
    execute(notebook, output)


@task
def instant(before: tuple[float, float] | None) -> tuple[float, float]:
    """When its first line and its last were reached; *before* is what the task before it gave."""
    return time.time(), time.time()


@flow
def in_a_row(tasks: int) -> list[tuple[float, float]]:
    """So many tasks, each of which needs the one before it."""
    times: list[tuple[float, float]] = []
    for _ in range(tasks):
        times.append(instant(times[-1] if times else None))
    return times


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """What was asked for."""
    if "tasks" in question:
        return {"times": in_a_row(question["tasks"])}
    one_notebook(question["notebook"], question["output"])
    return {}


said = sys.stdout
sys.stdout = sys.stderr  # for whatever else prints
print("{}", file=said, flush=True)
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), file=said, flush=True)
