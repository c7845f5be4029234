"""The engine `workbench` of papermill: `papermill --engine workbench in.ipynb out.ipynb`.

papermill has read the notebook and injected the parameters before it calls, and writes the output
after. What is put out meanwhile is in a log beside the output, which stays when the process dies.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from papermill.engines import Engine, NotebookExecutionManager

from pipelines.engine.job import JobLimits, NotebookJob, Outcome
from pipelines.engine.once import execute_and_wait, raise_unless_succeeded
from pipelines.engine.record.events import Event, Kind
from pipelines.engine.record.notebook import read_notebook
from pipelines.engine.record.publishing import notebook_bytes
from pipelines.states import State


class WorkbenchEngine(Engine):  # type: ignore[misc]
    """What papermill calls."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        *,
        start_timeout: float = 60,
        execution_timeout: float | None = None,
        stdout_file: Any = None,
        stderr_file: Any = None,
        **_: Any,
    ) -> None:
        """Execute the notebook of *nb_man*, and put what came of it in its place.

        Raises:
            NotebookFailed: when the kernel died or time was up. papermill itself raises what a cell raised.
            WorkbenchError: when the notebook could not be run.
        """
        files = {"stdout": stdout_file, "stderr": stderr_file}

        def watch(event: Event) -> None:
            if event.kind is Kind.CELL_ENDED and nb_man.pbar:
                nb_man.pbar.update(1)
            elif event.content.get("output_type") == "stream" and (file := files[event.content["name"]]):
                file.write(event.content["text"])
                file.flush()

        with tempfile.TemporaryDirectory(prefix="wb-") as folder:
            limits = JobLimits(cell_seconds=execution_timeout, start_seconds=start_timeout)
            job = _job(nb_man, kernel_name, Path(folder), limits)
            outcome = execute_and_wait(job, watch)
            _take_over(nb_man, read_notebook(job.log), outcome)
            job.log.unlink()
        if outcome.state is not State.FAILED:
            name = str(nb_man.nb.metadata.papermill.get("input_path") or "the notebook")
            raise_unless_succeeded(outcome, name, nb_man.output_path or "nowhere")


def _job(nb_man: NotebookExecutionManager, kernel: str, folder: Path, limits: JobLimits) -> NotebookJob:
    notebook = folder / "input.ipynb"
    notebook.write_bytes(notebook_bytes(nb_man.nb))
    output = nb_man.output_path
    # papermill also writes to addresses such as s3://; those have no place beside them.
    beside = Path(output).parent if output and "://" not in output else folder
    log = beside / f".{Path(output or 'output').stem}.running.jsonl"
    log.unlink(missing_ok=True)
    return NotebookJob(
        notebook=notebook,
        output=folder / "output.ipynb",
        log=log,
        folder=Path.cwd(),
        kernel=kernel,
        keeps_injected=True,
        limits=limits,
    )


def _take_over(nb_man: NotebookExecutionManager, executed: Mapping[str, Any], outcome: Outcome) -> None:
    """Give papermill's notebook the outputs and metadata of *executed*; the rest of it papermill has written."""
    succeeded = outcome.state is State.SUCCEEDED
    for cell, ours in zip(nb_man.nb.cells, executed["cells"], strict=True):
        fresh = nbformat.from_dict(ours)
        cell.metadata.papermill = fresh.metadata.papermill
        if not succeeded and cell.metadata.papermill.status == "pending":
            cell.metadata.papermill.status = "skipped"  # papermill would call it completed
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = fresh.outputs, fresh.execution_count
    nb_man.nb.metadata.workbench = nbformat.from_dict(executed["metadata"]["workbench"])
    nb_man.nb.metadata.papermill.exception = None if succeeded else True
