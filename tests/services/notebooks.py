"""Notebooks that tests write, and what an execution of them leaves."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nbformat import v4, write
from pydantic import SecretStr

from pipelines.engine import NotebookJob, Outcome
from pipelines.engine.execution import execute
from pipelines.engine.kernels.pool import KernelPool, PoolLimits
from pipelines.engine.record.events import Event

KERNEL = {"name": "python3", "language": "python", "display_name": "Python with Spark"}


def write_notebook(path: Path, *cells: str, parameters: str = "") -> Path:
    """A notebook of code cells; the first is that of *parameters*, if there are any."""
    notebook = v4.new_notebook(cells=[v4.new_code_cell(each) for each in cells], metadata={"kernelspec": KERNEL})
    if parameters:
        notebook.cells.insert(0, v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    write(notebook, path)
    return path


def make_job(place: Path, /, *cells: str, name: str = "work", declared: str = "", **fields: Any) -> NotebookJob:
    """A job whose notebook, log and output are in *place*."""
    notebook = write_notebook(place / f"{name}.ipynb", *cells, parameters=declared)
    log = place / f"{name}.jsonl"
    return NotebookJob(notebook=notebook, output=place / "out" / f"{name}.ipynb", log=log, **fields)


async def run_job(
    job: NotebookJob,
    *,
    kernels: KernelPool | None = None,
    cancel_when: Callable[[Event], bool] = lambda _: False,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Outcome:
    """Execute *job* in a kernel that is started for it, unless a pool is given."""
    cancel = asyncio.Event()

    def watch(event: Event) -> None:
        on_event(event)
        if cancel_when(event):
            cancel.set()

    if kernels:
        return await execute(job, kernels=kernels, cancel=cancel, on_event=watch)
    # ipykernel does not capture what is written past Python when it finds itself in a test.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    async with KernelPool(PoolLimits(kernels=0), environment=environment) as fresh:
        return await execute(job, kernels=fresh, cancel=cancel, on_event=watch)


def ran(job: NotebookJob, **options: Any) -> Outcome:
    """`run_job` in an event loop of its own."""
    return asyncio.run(run_job(job, **options))


def read_output(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def statuses(notebook: Mapping[str, Any]) -> list[str]:
    """What papermill's metadata says of each cell."""
    return [cell["metadata"]["papermill"]["status"] for cell in notebook["cells"]]


def printed(notebook: Mapping[str, Any], cell: int) -> str:
    """What a cell has printed, both streams."""
    return "".join(each["text"] for each in notebook["cells"][cell]["outputs"] if each["output_type"] == "stream")


def is_printing(event: Event) -> bool:
    """Whether a cell has printed something."""
    return event.content.get("output_type") == "stream"


def secrets(**values: str) -> dict[str, SecretStr]:
    return {name: SecretStr(value) for name, value in values.items()}
