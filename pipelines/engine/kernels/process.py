"""The process of a kernel, under a guard that ends it with us and knows how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.runtime import guard

TAIL_BYTES = 10_000
GUARD_SECONDS = 10.0  # what the guard may need to end a tree
LEFT_SECONDS = 10.0  # for what is on its way from processes that have ended


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the process of a kernel ended."""

    code: int | None  #: of its exit, -N after signal N; None when the guard was killed and nobody knows
    peak_memory_bytes: int | None

    @property
    def signal(self) -> str:
        """SIGKILL and others; empty when it ended by itself."""
        if self.code is None or self.code >= 0:
            return ""
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


class KernelProcess:
    """One process and everything that it starts. `ended` is done when the kernel has ended."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path, private: Path) -> None:
        self._command, self._environment, self._folder = command, environment, folder
        self._lock = private / "kernel.lock"
        self._printed = b""
        self._guard: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._watching: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.pid: int | None = None
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start the process.

        Raises:
            OSError: when the operating system refuses.
        """
        lifeline, guards_lifeline = socket.socketpair()
        printed, guards_printed = socket.socketpair()
        with guards_lifeline, guards_printed, contextlib.ExitStack() as unless_started:
            unless_started.callback(lifeline.close)
            unless_started.callback(printed.close)
            reader, self._writer = await asyncio.open_connection(sock=lifeline)
            unless_started.callback(self._writer.close)
            output, writer = await asyncio.open_connection(sock=printed)
            unless_started.callback(writer.close)
            self._guard = self._start_guard(guards_lifeline, guards_printed)
            unless_started.pop_all()
        # Nothing is waited for between the start and here: who is cancelled meanwhile leaves no process behind.
        self._watching = asyncio.create_task(self._watch(reader), name="watch-kernel")
        self._keeping = asyncio.create_task(self._keep_printed(output, writer), name="keep-printed")

    def interrupt(self) -> None:
        """SIGINT to the kernel and what it has started in its group, as a person's Ctrl-C."""
        if self.pid and not self.ended.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGINT)

    async def stop(self) -> Ending:
        """Kill what still runs, grandchildren of other groups included, and wait until all is gone. Safe to call twice.

        What has outlived a guard that was killed is not waited for.
        """
        if self._watching is None:
            return Ending(code=None, peak_memory_bytes=None)
        assert self._writer is not None
        assert self._keeping is not None
        with contextlib.suppress(OSError):
            self._writer.write_eof()
        try:
            async with asyncio.timeout(GUARD_SECONDS):
                await asyncio.shield(self._watching)
        except TimeoutError:
            assert self._guard is not None
            # Its kernel dies with it, see PR_SET_PDEATHSIG in the guard.
            self._guard.kill()
            await self._watching
        # Who has outlived the guard may hold the other end for as long as it lives.
        await asyncio.wait({self._keeping}, timeout=LEFT_SECONDS)
        self._keeping.cancel()
        return self.ended.result()

    def printed(self) -> str:
        """The end of what the process wrote past Jupyter's streams: tracebacks of a start, of a segmentation fault."""
        return self._printed.decode("utf-8", "replace")

    @property
    def printed_more(self) -> bool:
        """Whether a beginning of `printed` may be cut off, in the midst of a secret, too."""
        return len(self._printed) == TAIL_BYTES

    def forget_printed(self) -> None:
        """What was written until now is of no use any more."""
        self._printed = b""

    def _start_guard(self, lifeline: socket.socket, printed: socket.socket) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", guard.__file__, str(lifeline.fileno()), str(self._lock)),
                *(str(int(signal.SIGKILL)), str(GUARD_SECONDS), "--", *self._command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=printed.fileno(),
            stderr=printed.fileno(),
            cwd=self._folder,
            env=dict(self._environment),
            pass_fds=(lifeline.fileno(),),
            # Ctrl-C at a terminal is for us: we then interrupt the kernel, once.
            start_new_session=True,
        )

    async def _keep_printed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep the end, and in memory: it may have secrets in it, and ipykernel repeats there what subprocesses print."""
        try:
            with contextlib.suppress(OSError):
                while piece := await reader.read(65536):
                    self._printed = (self._printed + piece)[-TAIL_BYTES:]
        finally:
            writer.close()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        code = peak = None
        # A guard that was killed tells nothing more.
        with contextlib.suppress(OSError, ValueError):
            self.pid = int(await reader.readline())
            code, peak = map(int, (await reader.readline()).split())
        self.ended.set_result(Ending(code=code, peak_memory_bytes=peak))
        # It is through with the kernel's descendants when it closes the connection.
        with contextlib.suppress(OSError):
            await reader.read()
        assert self._guard is not None
        assert self._writer is not None
        self._writer.close()
        await asyncio.to_thread(self._guard.wait)
