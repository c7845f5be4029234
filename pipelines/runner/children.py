"""Child processes under a guard: started ahead, so that a step does not wait for Python, each for one step."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from workbench.observability.metrics import count_cache
from workbench.runtime import guard

GUARD_SECONDS = 10.0  # what the guard may need to end a tree
STOP_SECONDS = 10.0  # between the interrupt and the kill
LEFT_SECONDS = 10.0  # for what is on its way from processes that have ended
PROGRAM = "pipelines.runner.child"
CACHE = "process"  #: as metrics call it


@dataclass(frozen=True)
class Ending:
    """How a child process ended."""

    code: int | None  #: of its exit, -N after signal N; None when its guard was killed and nobody knows
    peak_memory_bytes: int | None


class Child:
    """One process and everything that it starts; ends with us, by kill -9 too."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process, self._writer = process, writer
        self.pid: int | None = None
        self.ended: asyncio.Task[Ending] = asyncio.create_task(self._watch(reader), name="watch-child")

    @classmethod
    async def start(cls, environment: Mapping[str, str], private: Path, number: int) -> Self:
        """Start a process that waits for its order.

        Raises:
            OSError: when the operating system refuses.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                *(sys.executable, "-I", "-S", guard.__file__, str(theirs.fileno()), str(private / f"{number}.lock")),
                *(str(int(signal.SIGINT)), str(STOP_SECONDS), "--", sys.executable, "-u", "-P", "-m", PROGRAM),
            ]
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=dict(environment),
                    pass_fds=(theirs.fileno(),),
                    # Ctrl-C at a terminal is for us.
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, *await asyncio.open_connection(sock=ours))

    async def send(self, order: bytes) -> None:
        """Tell it what to do."""
        assert self._process.stdin is not None
        # One that has died meanwhile is found out by its end.
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(order)
            await self._process.stdin.drain()
            self._process.stdin.close()

    def stream(self, name: str) -> asyncio.StreamReader:
        """Its `stdout` or `stderr`."""
        found = self._process.stdout if name == "stdout" else self._process.stderr
        assert found is not None
        return found

    def leave_streams(self) -> None:
        """Read nothing more, whoever still holds the other ends."""
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way

    async def stop(self, grace_seconds: float) -> Ending:
        """End what still runs: an interrupt, and a kill after *grace_seconds* at most. Safe to call twice."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()
        if grace_seconds < STOP_SECONDS and not self.ended.done():
            await asyncio.wait({self.ended}, timeout=grace_seconds)
            self._kill()
        try:
            async with asyncio.timeout(STOP_SECONDS + GUARD_SECONDS):
                return await asyncio.shield(self.ended)
        except TimeoutError:
            # The child dies with its guard, see PR_SET_PDEATHSIG in it.
            self._process.kill()
            return await self.ended

    def _kill(self) -> None:
        if self.pid is not None and not self.ended.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _watch(self, reader: asyncio.StreamReader) -> Ending:
        code = peak = None
        # A guard that was killed tells nothing more.
        with contextlib.suppress(OSError, ValueError):
            self.pid = int(await reader.readline())
            code, peak = map(int, (await reader.readline()).split())
        # It is through with what the child left behind when it closes the connection.
        with contextlib.suppress(OSError):
            await reader.read()
        self._writer.close()
        # Older Pythons wait for pipes, too, which who has outlived the guard may hold for as long as it lives.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEFT_SECONDS):
                await self._process.wait()
        return Ending(code, peak)


class ChildPool:
    """Child processes that wait for an order; a context manager that ends those that got none.

    Args:
        waiting: how many wait.
        environment: of the processes.
    """

    def __init__(self, waiting: int, *, environment: Mapping[str, str]) -> None:
        self._most, self._environment = waiting, environment
        self._waiting: list[asyncio.Task[Child]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._number = 0

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="wb-steps-")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for found in await asyncio.gather(*self._waiting, return_exceptions=True):
            if isinstance(found, Child):
                await found.stop(0)
        self._waiting.clear()
        assert self._folder is not None
        self._folder.cleanup()

    async def take(self) -> Child:
        """A process for one step, which it is told of by `send`; the next one is started beside it.

        Raises:
            OSError: when the operating system refuses to start one.
        """
        child = await self._waiting.pop(0) if self._waiting else None
        is_hit = child is not None and not child.ended.done()
        if self._most:
            count_cache(CACHE, is_hit=is_hit)
        if child is None or child.ended.done():
            child = await self._begin()
        while len(self._waiting) < self._most:
            self._waiting.append(self._begin())
        return child

    def _begin(self) -> asyncio.Task[Child]:
        assert self._folder is not None, "use the pool as a context manager"
        self._number += 1
        return asyncio.create_task(Child.start(self._environment, Path(self._folder.name), self._number))
