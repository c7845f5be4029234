"""A step that is a notebook."""

from __future__ import annotations

import asyncio
import signal

from pipelines.engine import NotebookJob, Outcome
from pipelines.engine.execution import execute
from pipelines.engine.kernels.handover import secret_reference
from pipelines.engine.kernels.pool import KernelPool
from pipelines.parameters import cell_source
from pipelines.runner.assignment import Assignment, Result, told
from pipelines.runner.folders import log_of, output_of
from pipelines.states import State


async def run_notebook(assignment: Assignment, *, kernels: KernelPool, cancel: asyncio.Event) -> Result:
    """Execute it.

    Raises:
        WorkbenchError: when the notebook, its parameters or its secrets are wrong; nothing has run.
    """
    assert assignment.file is not None, "a notebook is a file"
    bindings, encrypted = assignment.bindings, assignment.keys is not None
    job = NotebookJob(
        notebook=assignment.file,
        output=output_of(assignment.folder, encrypted=encrypted),
        log=log_of(assignment.folder, encrypted=encrypted),
        keys=assignment.keys,
        injected=_injected(assignment) if bindings.values else "",
        secrets=assignment.secrets,
        environment=assignment.environment,
        hidden=assignment.hidden,
        limits=assignment.limits,
        checkpoints=assignment.checkpoints,
    )
    return _result(await execute(job, kernels=kernels, cancel=cancel))


def _injected(assignment: Assignment) -> str:
    bindings = assignment.bindings
    return cell_source(bindings.parameters, bindings.values, reveal=lambda name, _: secret_reference(name))


def _result(outcome: Outcome) -> Result:
    return Result(
        state=outcome.state,
        error=_error(outcome),
        cell=outcome.cell,
        last_lines=outcome.last_lines,
        signal=signal.Signals[outcome.signal].value if outcome.signal in signal.Signals.__members__ else None,
        peak_memory_bytes=outcome.peak_memory_bytes,
        output=outcome.output,
        resumed_from=outcome.resumed_from,
        resumed_cell=outcome.resumed_cell,
        not_resumed=outcome.not_resumed,
    )


def _error(outcome: Outcome) -> str:
    if outcome.state is State.FAILED and outcome.error_name:
        return f"{outcome.error_name}: {outcome.error_value}"
    return told(outcome.message, outcome.remedy)
