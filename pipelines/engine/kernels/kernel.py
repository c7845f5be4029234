"""One running kernel that serves one notebook: how it is started, asked, interrupted and ended."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import write_connection_file
from pydantic import SecretStr

from pipelines.engine.kernels.handover import handover_code, serve_handover
from pipelines.engine.kernels.process import Ending, KernelProcess
from pipelines.engine.kernels.specs import KernelSpec
from workbench.errors import ComponentError
from workbench.runtime.kernels import new_runtime_folder

RECONNECT_MILLISECONDS = 10  # a kernel that starts is looked for that often
ASK_AGAIN_SECONDS = 0.1
T = TypeVar("T")


async def start_kernel(
    spec: KernelSpec, *, environment: Mapping[str, str], seconds: float, folder: Path | None = None
) -> Kernel:
    """Start a kernel in *folder*, and return it when it answers; without one, in its private folder.

    A kernel of Python imports from the folder in which it starts, before all else: nobody else may write there.

    Raises:
        ComponentError: when it does not within *seconds*, ends before, or cannot be started.
    """
    try:
        private = new_runtime_folder()
        client = _make_client(private, spec.name)
        command, variables = spec.command(client.connection_file), spec.environment_over(environment)
        kernel = Kernel(
            spec,
            private,
            KernelProcess(command, environment=variables, folder=folder or private, private=private),
            client,
        )
        try:
            await kernel._start(seconds)  # noqa: SLF001 - this function is the constructor that may wait
        except BaseException:
            await kernel.stop()
            raise
    except OSError as error:
        where = f" in {folder}" if folder else ""
        raise ComponentError(f"the kernel {spec.name!r} cannot be started{where}: {error}") from None
    return kernel


def _make_client(private: Path, name: str) -> AsyncKernelClient:
    path, info = write_connection_file(
        str(private / "connection.json"),
        transport="ipc",
        ip=str(private / "k"),
        key=uuid4().hex.encode(),
        kernel_name=name,
        # Not ports: each is the end of a socket's name.
        shell_port=1,
        iopub_port=2,
        stdin_port=3,
        control_port=4,
        hb_port=5,
    )
    context = zmq.asyncio.Context()
    # With the default a kernel's messages beyond a thousand are dropped without a word.
    context.setsockopt(zmq.RCVHWM, 0)
    context.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
    client = AsyncKernelClient(context=context, connection_file=path)
    client.load_connection_info(info)
    return client


class Kernel:
    """A kernel that listens on Unix sockets in a folder of its own. Use it once, then `stop` it."""

    def __init__(self, spec: KernelSpec, private: Path, process: KernelProcess, client: AsyncKernelClient) -> None:
        self.spec, self.private, self.client = spec, private, client
        self._process = process
        self.begun_with: object = None  #: what a pool's `current` said before this one was started

    @property
    def ended(self) -> asyncio.Future[Ending]:
        """Done when the kernel's process has ended, whoever did it."""
        return self._process.ended

    @property
    def pid(self) -> int | None:
        """Of the kernel's process, which leads a session and a group of its own."""
        return self._process.pid

    async def hand_over(
        self,
        *,
        folder: Path,
        environment: Mapping[str, str],
        secrets: Mapping[str, SecretStr],
        hidden: Mapping[str, SecretStr],
    ) -> None:
        """Tell a kernel of Python where it works and what it may know.

        Raises:
            ComponentError: when it does not take it, with what it says.
            KernelEnded: when it ends.
        """
        async with serve_handover(self.private, folder=folder, environment=environment, secrets=secrets, hidden=hidden):
            reply = await self.run_silently(handover_code(self.private))
        if reply["status"] != "ok":
            raise ComponentError(f"the kernel cannot work in {folder}: {reply.get('evalue', reply['status'])}")

    async def run_silently(self, code: str) -> dict[str, Any]:
        """The content of the reply to *code*, which leaves no trace in the kernel's history and counts as no cell.

        Raises:
            KernelEnded: when the kernel ends before.
        """
        request = self.client.execute(code, silent=True, store_history=False, allow_stdin=False)
        return dict((await self.or_end(self.reply(request)))["content"])

    async def reply(self, request: str) -> dict[str, Any]:
        """The message on the shell channel that answers *request*; others are thrown away."""
        while True:
            message = await self.client.get_shell_msg()
            if message["parent_header"].get("msg_id") == request:
                return message

    async def or_end(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of *work*.

        Raises:
            KernelEnded: when the kernel ends before.
        """
        task = asyncio.ensure_future(work)
        try:
            ends: list[asyncio.Future[Any]] = [task, self.ended]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise KernelEnded(self.ended.result())
        finally:
            task.cancel()

    def interrupt(self) -> None:
        """Interrupt the cell that runs. In Python it sees a KeyboardInterrupt, which PySpark passes on to Spark."""
        if self.spec.interrupts_by_message:
            session = self.client.session
            self.client.control_channel.send(session.msg("interrupt_request", content={}))
        else:
            self._process.interrupt()

    def leave(self) -> None:
        """Ask the kernel to end by itself, with its exit handlers: `ended` says when it has."""
        if not self.ended.done():
            self.client.shutdown()

    async def stop(self) -> Ending:
        """Kill what is left of the kernel and of all that it has started, and remove its folder. Safe to call twice."""
        ending = await self._process.stop()
        if self.client.channels_running:
            self.client.stop_channels()
        self.client.context.destroy(linger=0)
        shutil.rmtree(self.private, ignore_errors=True)
        return ending

    def printed(self) -> str:
        """What the process wrote past Jupyter's streams, at most its last 10,000 bytes."""
        return self._process.printed()

    @property
    def printed_more(self) -> bool:
        """Whether a beginning of `printed` may be cut off, in the midst of a secret, too."""
        return self._process.printed_more

    async def _start(self, seconds: float) -> None:
        await self._process.start()
        self.client.start_channels(stdin=False, hb=False)
        try:
            async with asyncio.timeout(seconds):
                await self.or_end(self._answer())
            self._process.forget_printed()  # Jupyter's greeting
        except TimeoutError:
            raise self._start_error(f"did not answer within {seconds:.0f} s") from None
        except KernelEnded as error:
            raise self._start_error(f"ended with {error.ending.signal or f'code {error.ending.code}'}") from None

    async def _answer(self) -> None:
        """Return when requests are answered and their output arrives: a subscription needs a moment longer."""
        output = asyncio.ensure_future(self.client.get_iopub_msg())
        try:
            while not output.done():
                request = self.client.kernel_info()
                await self.reply(request)
                await asyncio.wait({output}, timeout=ASK_AGAIN_SECONDS)
        finally:
            output.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await output

    def _start_error(self, what: str) -> ComponentError:
        tail = "".join(f"\n    {line}" for line in self.printed().splitlines()[-15:])
        return ComponentError(
            f"the kernel {self.spec.name!r} {what}" + (f". It wrote:{tail}" if tail else ""),
            remedy="Try `jupyter console --kernel` with it; `jupyter kernelspec list` shows where it is defined.",
        )


class KernelEnded(Exception):
    """A kernel ended while it was waited for. It never leaves the engine."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        super().__init__(f"the kernel ended: {ending}")
