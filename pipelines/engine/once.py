"""Runs one notebook and waits for it: for commands and scripts that have no schedule."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pipelines.engine.job import NotebookJob, Outcome
from pipelines.engine.record.events import Event
from pipelines.states import State
from workbench.errors import NotebookFailed, WorkbenchError
from workbench.runtime.activity import mark_busy
from workbench.runtime.kernels import jupyter_folders, new_runtime_folder
from workbench.security.secrets import private_folder

KERNEL = "python3"


def run_notebook(notebook: Path, output: Path, parameters: Mapping[str, object]) -> Path:
    """Run *notebook* with *parameters* and write the executed copy to *output*.

    The input is never changed. The output appears whole when the run has ended, failed runs
    included: their notebook holds the traceback. While it runs, what it puts out is in a log
    beside the output; of a run that was killed the log stays.

    Raises:
        WorkbenchError: when there is no such notebook, or it does not take a parameter, or no
            kernel could be had.
        NotebookFailed: when a cell raised or the kernel died; `output` shows where.
    """
    private_folder(output.parent)
    log = output.with_name(f".{output.stem}.running.jsonl")
    log.unlink(missing_ok=True)
    job = NotebookJob(
        notebook=notebook, output=output, log=log, parameters=parameters, kernel=KERNEL, folder=output.parent
    )
    # The server that this runs in is not stopped for being idle meanwhile.
    with mark_busy(notebook.stem):
        outcome = execute_and_wait(job)
    if outcome.output:
        log.unlink()
    raise_unless_succeeded(outcome, notebook.name, output)
    return output


def execute_and_wait(job: NotebookJob, on_event: Callable[[Event], None] = lambda _: None) -> Outcome:
    """Execute *job* in a kernel that is started for it.

    It runs in a thread, because a caller in a notebook has an event loop of its own. Ctrl-C cancels it,
    and is raised when what was put out until then is on the disk.

    Raises:
        WorkbenchError: as `execute` does.
        KeyboardInterrupt: of the caller.
    """
    loop: Future[asyncio.AbstractEventLoop] = Future()
    cancel = asyncio.Event()

    def run() -> Outcome:
        with asyncio.Runner() as runner:
            loop.set_result(runner.get_loop())
            return runner.run(_execute(job, cancel, on_event))

    with ThreadPoolExecutor(1, thread_name_prefix="execute") as thread:
        ended = thread.submit(run)
        try:
            return ended.result()
        except KeyboardInterrupt:
            loop.result().call_soon_threadsafe(cancel.set)
            ended.result()
            raise


async def _execute(job: NotebookJob, cancel: asyncio.Event, on_event: Callable[[Event], None]) -> Outcome:
    from pipelines.engine.execution import execute
    from pipelines.engine.kernels.pool import KernelPool, PoolLimits

    async with KernelPool(PoolLimits(kernels=0), environment=os.environ) as kernels:
        return await execute(job, kernels=kernels, cancel=cancel, on_event=on_event)


def raise_unless_succeeded(outcome: Outcome, name: str, output: Path | str) -> None:
    """Raise what *outcome* says, unless it is a success.

    Raises:
        NotebookFailed: when the notebook is to blame, or its kernel died.
        WorkbenchError: when it could not be run.
    """
    if outcome.state is State.SUCCEEDED:
        return
    message = f"{name}: {outcome.message}"
    if outcome.state is State.INFRASTRUCTURE_ERROR:
        raise WorkbenchError(message, remedy=outcome.remedy)
    if outcome.state is State.FAILED:
        where = f"cell {outcome.execution_count} of {name}"
        message = f"{where} raised {outcome.error_name}: {outcome.error_value}"
    raise NotebookFailed(message, remedy=f"The output notebook has what it put out: {output}")


@contextmanager
def kernel_folders() -> Iterator[None]:
    """Have kernels find our specification, and keep their sockets in a private folder that lives as long as this."""
    sockets = new_runtime_folder()
    own = {**jupyter_folders(), "JUPYTER_RUNTIME_DIR": str(sockets)}
    before = {name: os.environ.get(name) for name in own}
    # Jupyter reads them from the environment, each time that it starts a kernel.
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(sockets, ignore_errors=True)
