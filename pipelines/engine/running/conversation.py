"""What is said between us and a kernel: requests to run cells, replies, and the output in between."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pipelines.engine.kernels.kernel import Kernel
from pipelines.engine.record.recorder import Recorder

DRAIN_SECONDS = 1.0
EXPRESSION = "asked"  # by which the reply has it


@dataclass(frozen=True)
class Asked:
    """A cell that the kernel was asked to run."""

    cell: int
    busy: asyncio.Future[None]  #: done when the kernel has begun with it
    idle: asyncio.Future[None]  #: done when all its output has come
    replied: asyncio.Task[dict[str, Any]]  #: the content of the reply, when all its output has come


class Conversation:
    """Reads all that a kernel puts out and gives it to the recorder; a context manager."""

    def __init__(self, kernel: Kernel, recorder: Recorder) -> None:
        self._kernel, self._recorder = kernel, recorder
        self._asked: dict[str, Asked] = {}
        self._current: Asked | None = None
        self._heard_at = 0.0
        self._loop = asyncio.get_running_loop()
        self.reading: asyncio.Task[None]  #: ends only with an error, such as a full disk

    async def __aenter__(self) -> Self:
        self.reading = asyncio.create_task(self._read(), name="read-kernel")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [self.reading, *(each.replied for each in self._asked.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ask(self, cell: int, source: str) -> Asked:
        """Have the kernel run *source*. It is never asked for input: nobody is there to type."""
        return self._expect(cell, self._kernel.client.execute(source, allow_stdin=False, stop_on_error=True))

    def ask_for(self, cell: int, expression: str) -> Asked:
        """Have the kernel work out *expression*, which counts as no cell; the reply has what came of it."""
        expressions = {EXPRESSION: expression}
        request = self._kernel.client.execute("pass", silent=True, user_expressions=expressions, allow_stdin=False)
        return self._expect(cell, request)

    def _expect(self, cell: int, request: str) -> Asked:
        busy, idle = self._loop.create_future(), self._loop.create_future()
        replied = asyncio.create_task(self._reply(request, idle), name=f"cell-{cell}")
        asked = self._asked[request] = Asked(cell, busy, idle, replied)
        return asked

    async def drain(self, quiet_seconds: float) -> None:
        """Read what a kernel that has ended had sent before, until nothing has come for *quiet_seconds*."""
        deadline = self._loop.time() + DRAIN_SECONDS
        self._heard_at = self._loop.time()
        while self._loop.time() < min(deadline, self._heard_at + quiet_seconds):
            await asyncio.wait({self.reading}, timeout=quiet_seconds)
            if self.reading.done():
                return

    async def _reply(self, request: str, idle: asyncio.Future[None]) -> dict[str, Any]:
        message = await self._kernel.reply(request)
        await idle
        return dict(message["content"])

    async def _read(self) -> None:
        while True:
            message = await self._kernel.client.get_iopub_msg()
            self._heard_at = self._loop.time()
            kind, content = message["msg_type"], message["content"]
            asked = self._asked.get(message["parent_header"].get("msg_id", ""))
            if kind == "status":
                self._note_status(asked, content["execution_state"])
            # A thread that a cell has started puts out after it, and it still is the cell's. What belongs to
            # no cell, such as the output of an exit handler, is the last cell's.
            elif owner := asked or self._current:
                self._recorder.take(owner.cell, kind, content)

    def _note_status(self, asked: Asked | None, state: str) -> None:
        if asked is None:
            return
        if state == "busy":
            self._current = asked
        reached = {"busy": asked.busy, "idle": asked.idle}.get(state)
        if reached and not reached.done():
            reached.set_result(None)
