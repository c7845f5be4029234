"""The cells of a notebook, one after the other, until the last, an error, a limit, a person, or the kernel's end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.engine.checkpoints.passing import Passing
from pipelines.engine.checkpoints.resuming import Keeper
from pipelines.engine.job import JobLimits
from pipelines.engine.kernels.kernel import Kernel
from pipelines.engine.record.notebook import is_executed, tags
from pipelines.engine.record.recorder import Recorder
from pipelines.engine.running.conversation import EXPRESSION, Asked, Conversation
from pipelines.engine.running.verdict import AFTER_LAST, JOIN, MAKE_ROOM, Verdict
from pipelines.states import State

DEAD_QUIET_SECONDS = 0.1  # of a killed kernel nothing comes again: patience costs little
QUIET_SECONDS = 0.02  # of a kernel that has ended in order
SHUTDOWN_SECONDS = 5.0  # that a kernel has at least for its end, such as flushing files, whatever the limits
MAY_RAISE = "raises-exception"  # a tag of nbclient and JupyterLab


@dataclass(frozen=True)
class _Stop:
    """Why a cell that runs has to end."""

    state: State
    reason: str
    limit: str = ""


class CellRunner:
    """Runs cells in one kernel."""

    def __init__(
        self,
        kernel: Kernel,
        conversation: Conversation,
        recorder: Recorder,
        *,
        limits: JobLimits,
        cancel: asyncio.Event,
        keeper: Keeper | None = None,
    ) -> None:
        self._kernel, self._conversation, self._recorder, self._limits = kernel, conversation, recorder, limits
        self._cancel, self._keeper = cancel, keeper
        self._loop = asyncio.get_running_loop()
        self._run_deadline: float | None = None
        self._cancelled: asyncio.Task[Any]

    async def run(self, cells: Sequence[Mapping[str, Any]]) -> Verdict:
        """Run *cells*, and let the kernel end; cells that follow one that did not succeed are not run.

        Those of a checkpoint need not be, either.

        Raises:
            OSError: when the log cannot be written.
        """
        seconds = self._limits.run_seconds
        self._run_deadline = None if seconds is None else self._loop.time() + seconds
        self._cancelled = asyncio.create_task(self._cancel.wait(), name="wait-for-cancel")
        try:
            verdict = await self._run_all(cells)
            # Files are flushed, threads waited for and Spark sessions closed by what Python does at its end.
            if verdict.state is State.SUCCEEDED:
                return await self._leave(verdict)
            if verdict.state is State.FAILED:
                await self._wait_for_end(SHUTDOWN_SECONDS)
            return verdict
        finally:
            self._cancelled.cancel()

    async def _run_all(self, cells: Sequence[Mapping[str, Any]]) -> Verdict:
        for index, cell in enumerate(cells):
            if self._cancel.is_set():
                return Verdict(state=State.CANCELLED, message="it was cancelled between two cells")
            if verdict := await self._pass(index, cell):
                return verdict
        return Verdict(state=State.SUCCEEDED)

    async def _leave(self, verdict: Verdict) -> Verdict:
        """Let the kernel of a notebook that is done end by itself: what it still does belongs to the run."""
        deadline = self._run_deadline
        left = None if deadline is None else max(SHUTDOWN_SECONDS, deadline - self._loop.time())
        await self._wait_for_end(left)
        if self._kernel.ended.done():
            # Of a kernel that ends otherwise nobody knows what it has left undone.
            return verdict if self._kernel.ended.result().code == 0 else Verdict(state=State.KERNEL_DIED)
        if self._cancel.is_set():
            return Verdict(state=State.CANCELLED, message=f"it was cancelled {AFTER_LAST}, before its kernel had ended")
        message = f"the kernel had not ended {AFTER_LAST} within {self._limits.run_seconds:g} s for the whole notebook"
        return Verdict(state=State.TIMED_OUT, limit="run", message=message, remedy=JOIN)

    async def _wait_for_end(self, seconds: float | None) -> None:
        """Until the kernel has ended, as it is asked to; at most for *seconds*, and until somebody cancels."""
        self._kernel.leave()
        ends: list[asyncio.Future[Any]] = [self._kernel.ended, self._conversation.reading, self._cancelled]
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        self._check_reading()
        await self._conversation.drain(QUIET_SECONDS)

    async def _pass(self, index: int, cell: Mapping[str, Any]) -> Verdict | None:
        """Do what there is to do with one cell; None says that the next may follow."""
        keeper = self._keeper
        if keeper is not None and index == keeper.resumes_at:
            return await self._pass_through(index, *await asyncio.to_thread(keeper.restoring))
        if not is_executed(cell) or (keeper is not None and index in keeper.carried):
            return None
        return await self._run_cell(index, cell)

    async def _run_cell(self, index: int, cell: Mapping[str, Any]) -> Verdict | None:
        self._recorder.start_cell(index)
        reply, stop = await self._answer(self._conversation.ask(index, cell["source"]))
        verdict = self._verdict(index, cell, reply, stop)
        if verdict is None and reply["status"] == "ok" and self._keeper and index in self._keeper.declared:
            verdict = await self._keep(index, self._keeper)
        is_ok = verdict is None or verdict.state is State.SUCCEEDED
        self._recorder.end_cell(index, status="ok" if is_ok else "error", execution_count=reply.get("execution_count"))
        return verdict

    async def _keep(self, index: int, keeper: Keeper) -> Verdict | None:
        """Keep what the checkpoint that has just succeeded carries."""
        try:
            verdict = await self._pass_through(index, *await asyncio.to_thread(keeper.saving, index))
            if verdict is None:
                await asyncio.to_thread(keeper.publish, index)
            else:
                await asyncio.to_thread(keeper.drop)
        except OSError as error:
            message = f"the checkpoint cannot be written: {error.filename or ''} {error.strerror or error}"
            return Verdict(state=State.INFRASTRUCTURE_ERROR, cell=index, message=message, remedy=MAKE_ROOM)
        return verdict

    async def _pass_through(self, index: int, expression: str, passing: Passing | None) -> Verdict | None:
        """As `_consult`, of what goes through a pipe.

        Raises:
            OSError: when there is no room.
            KeysetError, EncryptionError: when it could not be encrypted or decrypted.
        """
        try:
            return await self._consult(index, expression)
        finally:
            if passing is not None:
                await asyncio.to_thread(passing.finish)

    async def _consult(self, index: int, expression: str) -> Verdict | None:
        """Have the kernel do something for us; None says that it is done."""
        reply, stop = await self._answer(self._conversation.ask_for(index, expression))
        if stop or not reply:
            return self._verdict(index, {}, reply, stop)
        said = reply.get("user_expressions", {}).get(EXPRESSION, reply)
        if said["status"] == "ok":
            return None
        name, value = said.get("ename", said["status"]), said.get("evalue", "")
        message = f"the checkpoint of cell {index + 1} of the notebook: {name}: {value}"
        if name == "OSError":
            return Verdict(state=State.INFRASTRUCTURE_ERROR, cell=index, message=message, remedy=MAKE_ROOM)
        self._recorder.take(index, "error", {"ename": name, "evalue": value, "traceback": [f"{name}: {value}"]})
        return Verdict(state=State.FAILED, cell=index, error_name=name, error_value=value, message=message)

    async def _answer(self, asked: Asked) -> tuple[Mapping[str, Any], _Stop | None]:
        """The content of the reply, which is empty when the kernel has ended; and why it was ended, if it was."""
        stop = await self._wait(asked)
        if stop:
            await self._interrupt(asked)
        if not asked.replied.done() and self._kernel.ended.done():
            await self._conversation.drain(DEAD_QUIET_SECONDS)
        self._check_reading()
        return asked.replied.result() if asked.replied.done() else {}, stop

    async def _wait(self, asked: Asked) -> _Stop | None:
        """Until the cell or the kernel has ended, which is None, or the cell has to end."""
        now, cell_seconds = self._loop.time(), self._limits.cell_seconds
        remaining = [] if cell_seconds is None else [(cell_seconds, "cell")]
        if self._run_deadline is not None:
            remaining.append((max(0.0, self._run_deadline - now), "run"))
        timeout, limit = min(remaining, default=(None, ""))
        ends = self._ends(asked)
        done, _ = await asyncio.wait([*ends, self._cancelled], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        self._check_reading()
        if asked.replied in done or self._kernel.ended in done:
            return None
        if self._cancelled in done:
            return _Stop(State.CANCELLED, "was cancelled")
        allowed = cell_seconds if limit == "cell" else self._limits.run_seconds
        whole = "" if limit == "cell" else " for the whole notebook"
        return _Stop(State.TIMED_OUT, f"was not done within {allowed:g} s{whole}", limit)

    async def _interrupt(self, asked: Asked) -> None:
        """Interrupt the cell, and give it its grace to end by itself."""
        deadline = self._loop.time() + self._limits.grace_seconds
        ends = self._ends(asked)
        # A kernel that has not begun with the cell would ignore it.
        await asyncio.wait([asked.busy, *ends], timeout=self._limits.grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        self._kernel.interrupt()
        await asyncio.wait(ends, timeout=max(0.0, deadline - self._loop.time()), return_when=asyncio.FIRST_COMPLETED)

    def _verdict(
        self, index: int, cell: Mapping[str, Any], reply: Mapping[str, Any], stop: _Stop | None
    ) -> Verdict | None:
        at = Verdict(state=State.FAILED, cell=index, execution_count=reply.get("execution_count"))
        if stop:
            message = f"{at.place} {stop.reason}"
            return replace(at, state=stop.state, limit=stop.limit, message=message)
        if not reply:
            return replace(at, state=State.KERNEL_DIED)
        name, value = reply.get("ename", reply["status"]), reply.get("evalue", "")
        if reply["status"] == "ok":
            left = [each.get("keepkernel") for each in reply.get("payload", ()) if each.get("source") == "ask_exit"]
            if not left:
                return None
            # IPython's exit takes True and False for whether the kernel stays, and says all else as it was given.
            name, value = "SystemExit", "" if isinstance(left[-1], bool) else str(left[-1])
        if name == "SystemExit" and value in {"", "0", "None"}:
            return replace(at, state=State.SUCCEEDED)  # as with papermill: the notebook says that it is done
        if MAY_RAISE in tags(cell):
            return None
        message = f"{at.place} raised {name}: {value}"
        return replace(at, error_name=name, error_value=value, message=message)

    def _ends(self, asked: Asked) -> list[asyncio.Future[Any]]:
        """What ends a cell, if nobody ends it."""
        return [asked.replied, self._kernel.ended, self._conversation.reading]

    def _check_reading(self) -> None:
        """Raise what has kept us from reading on."""
        if self._conversation.reading.done():
            self._conversation.reading.result()
