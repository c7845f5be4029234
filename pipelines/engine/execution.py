"""Executes one notebook: in a kernel of its own, each message logged, the end said as it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pipelines.engine.checkpoints.resuming import Keeper, make_keeper
from pipelines.engine.job import NotebookJob, Outcome
from pipelines.engine.kernels.kernel import Kernel, KernelEnded
from pipelines.engine.kernels.memory import MemoryWatch
from pipelines.engine.kernels.pool import KernelPool
from pipelines.engine.record.events import Event, Kind
from pipelines.engine.record.keeping import is_encrypted, new_sealer
from pipelines.engine.record.log import EventLog
from pipelines.engine.record.publishing import publish_notebook
from pipelines.engine.record.recorder import OnEvent, Recorder
from pipelines.engine.record.redaction import Redactor
from pipelines.engine.running.cells import CellRunner
from pipelines.engine.running.conversation import Conversation
from pipelines.engine.running.verdict import MAKE_ROOM, Verdict
from pipelines.engine.source import Source, read_source
from pipelines.states import State
from workbench.errors import ComponentError, EncryptionError, KeysetError, WorkbenchError

REFILL_SECONDS = 1.0
T = TypeVar("T")


async def execute(
    job: NotebookJob, *, kernels: KernelPool, cancel: asyncio.Event, on_event: OnEvent = lambda _: None
) -> Outcome:
    """Execute the notebook of *job*; return when its kernel is gone and its output is on the disk.

    Several executions may run at once in one event loop. When this coroutine is cancelled itself,
    the kernel is ended, the log has no end, and no output appears.

    Args:
        job: what is executed; its log must not exist yet.
        kernels: where the kernel comes from.
        cancel: set by whoever wants the execution to end; what was put out until then is kept.
        on_event: told each event once it is in the log, in the event loop: it must not block.

    Raises:
        WorkbenchError: when the notebook, its parameters or its secrets are wrong; nothing has run.
    """
    began = time.monotonic()
    redactor = Redactor({**job.secrets, **job.hidden})
    source = await asyncio.to_thread(read_source, job)
    keeper = None
    if job.checkpoints is not None:
        encrypts = is_encrypted(job.log)
        keeper = await asyncio.to_thread(make_keeper, job.checkpoints, source, job.keys, encrypts=encrypts)
    verdict = Verdict(state=State.INFRASTRUCTURE_ERROR)
    last_lines: tuple[str, ...] = ()
    try:
        sealer = await asyncio.to_thread(new_sealer, job.log, job.keys)
        async with EventLog(job.log, sealer) as log:
            recorder = Recorder(log, redactor, job.limits, on_event)
            recorder.start(redactor.cleaned(source.notebook))
            for cell, content in (keeper.carried if keeper else {}).items():
                recorder.carry(cell, content)
            verdict = await _Execution(job, source, kernels, cancel, recorder, keeper=keeper).run()
            verdict = verdict.with_resumption(keeper)
            last_lines = recorder.last_lines
            verdict = verdict.cleaned(redactor)
            recorder.end(verdict.cell, verdict.as_content())
    except (OSError, KeysetError, EncryptionError) as error:
        verdict = _unwritable(verdict, job.log, error).cleaned(redactor)
    verdict, has_output = await _publish(job, verdict)
    seconds = time.monotonic() - began
    return verdict.as_outcome(job, has_output=has_output, last_lines=last_lines, seconds=seconds)


async def _publish(job: NotebookJob, verdict: Verdict) -> tuple[Verdict, bool]:
    """Write the output notebook. When that is impossible the verdict is another: it is no success."""
    end = Event(at=time.time(), kind=Kind.ENDED, cell=verdict.cell, content=verdict.as_content())
    try:
        await asyncio.to_thread(publish_notebook, job.log, job.output, end=end, keys=job.keys)
    except ValueError:  # the log has no beginning: the disk was full before
        return verdict, False
    except (OSError, KeysetError, EncryptionError) as error:
        return _unwritable(verdict, job.output, error), False
    return verdict, True


def _unwritable(verdict: Verdict, path: Path, error: OSError | WorkbenchError) -> Verdict:
    if verdict.state is State.INFRASTRUCTURE_ERROR and verdict.message:
        return verdict  # the first cause is the one to tell
    if isinstance(error, WorkbenchError):
        message = f"{path} cannot be encrypted: {error.message}"
        return replace(verdict, state=State.INFRASTRUCTURE_ERROR, message=message, remedy=error.remedy)
    message = f"{path} cannot be written: {error.strerror or error}"
    return replace(verdict, state=State.INFRASTRUCTURE_ERROR, message=message, remedy=MAKE_ROOM)


class _Cancelled(Exception):
    """The execution is cancelled while it has no cell yet."""


class _Execution:
    """One notebook between the choice of its kernel and the end of it."""

    def __init__(
        self,
        job: NotebookJob,
        source: Source,
        kernels: KernelPool,
        cancel: asyncio.Event,
        recorder: Recorder,
        *,
        keeper: Keeper | None,
    ) -> None:
        self._job, self._source, self._kernels, self._cancel, self._recorder = job, source, kernels, cancel, recorder
        self._keeper = keeper

    async def run(self) -> Verdict:
        """Run the notebook.

        Raises:
            OSError: when the log cannot be written.
        """
        try:
            kernel = await self._unless_cancelled(self._take_kernel())
        except _Cancelled:
            return Verdict(state=State.CANCELLED, message="it was cancelled before its first cell")
        except ComponentError as error:
            return Verdict(state=State.INFRASTRUCTURE_ERROR, message=error.message, remedy=error.remedy)
        return await self._run_in(kernel)

    async def _run_in(self, kernel: Kernel) -> Verdict:
        memory = MemoryWatch()
        # The next kernel starts beside a long notebook, and behind a short one, which it would slow down.
        refill = partial(self._kernels.refill, self._source.kernel)
        later = asyncio.get_running_loop().call_later(REFILL_SECONDS, refill)
        try:
            async with Conversation(kernel, self._recorder) as conversation:
                runner = CellRunner(
                    kernel,
                    conversation,
                    self._recorder,
                    limits=self._job.limits,
                    cancel=self._cancel,
                    keeper=self._keeper,
                )
                verdict = await runner.run(self._source.notebook["cells"])
        finally:
            later.cancel()
            ending = await kernel.stop()
        refill()
        if verdict.state is State.KERNEL_DIED:
            self._recorder.note_lines(kernel.printed(), is_cut=kernel.printed_more)
        return verdict.with_ending(ending, is_out_of_memory=memory.explains(ending))

    async def _take_kernel(self) -> Kernel:
        """A kernel that knows its folder, its environment and its secrets.

        Raises:
            ComponentError: when there is none, or it does not take them.
        """
        job = self._job
        spec = self._kernels.spec(self._source.kernel)
        wants = {"secrets": job.secrets, "checkpoints": self._keeper and self._keeper.declared}
        for what in (name for name, each in wants.items() if each and not spec.is_python):
            raise ComponentError(
                f"the kernel {spec.name!r} is for {spec.language} and cannot be given {what}",
                remedy=f"Use a kernel for Python, or take the {what} away from the notebook.",
            )
        folder = (job.folder or job.notebook.parent).absolute()
        kernel = await self._kernels.take(
            spec.name, folder=folder, environment=job.environment, start_seconds=job.limits.start_seconds
        )
        try:
            if spec.is_python:
                async with asyncio.timeout(job.limits.start_seconds):
                    await kernel.hand_over(
                        folder=folder, environment=job.environment, secrets=job.secrets, hidden=job.hidden
                    )
        except BaseException as error:
            ending = await kernel.stop()
            if isinstance(error, KernelEnded):
                how = ending.signal or f"code {ending.code}"
                raise ComponentError(f"the kernel {spec.name!r} ended with {how} before the first cell") from None
            if isinstance(error, TimeoutError):
                raise ComponentError(f"the kernel {spec.name!r} does not answer any more") from None
            raise
        return kernel

    async def _unless_cancelled(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of *work*.

        Raises:
            _Cancelled: when the execution is cancelled before it is there; *work* has then cleaned up.
        """
        task, cancelled = asyncio.ensure_future(work), asyncio.ensure_future(self._cancel.wait())
        try:
            await asyncio.wait({task, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise _Cancelled
        finally:
            cancelled.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
