"""Kernels that are started ahead, each for one use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from pipelines.engine.kernels.kernel import Kernel, KernelEnded, start_kernel
from pipelines.engine.kernels.process import Ending
from pipelines.engine.kernels.specs import KernelSpec, find_spec
from workbench.errors import ComponentError
from workbench.observability.metrics import count_cache

logger = logging.getLogger(__name__)

CACHE = "kernel"  #: as metrics call it
MEGABYTE = 1_000_000
# A fresh kernel is taken to need that much as long as none has been measured.
KERNEL_BYTES = 100 * MEGABYTE
# One that dies sooner is not replaced until it is asked for: it would die again.
STURDY_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class PoolLimits:
    """What kernels that wait may take. A pool of 0 kernels starts each when it is asked for."""

    kernels: int = 2  #: of each specification that has been asked for
    memory_bytes: int = 500 * MEGABYTE  #: of all that wait
    start_seconds: float = 60.0


@dataclass
class _Shelf:
    """The kernels of one specification."""

    spec: KernelSpec
    waiting: list[Kernel] = field(default_factory=list)
    tasks: set[asyncio.Task[object]] = field(default_factory=set)


class KernelPool:
    """Fresh kernels of one user and one environment; a context manager that ends those that were not taken.

    A kernel that is taken is the caller's, who ends it: no state passes from one notebook to the
    next. The place of one that was taken is filled by `refill`, when the caller can spare the
    processor, and of one that died by itself, at once.

    Args:
        limits: how many kernels wait, and with how much memory.
        environment: of the kernels. It is all that they have, secrets of ours included if it has any.
        current: what kernels that wait have read already, such as packages. One that was started when it said
            something else is not given to anybody. Called in a thread.
    """

    def __init__(
        self,
        limits: PoolLimits = PoolLimits(),
        *,
        environment: Mapping[str, str],
        current: Callable[[], object] = lambda: None,
    ) -> None:
        self._limits, self._environment, self._current = limits, dict(environment), current
        self._shelves: dict[str, _Shelf] = {}
        self._endings: set[asyncio.Task[Ending]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shelves = [*self._shelves.values()]
        self._shelves.clear()
        for task in (tasks := [task for shelf in shelves for task in shelf.tasks]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._endings, *(kernel.stop() for shelf in shelves for kernel in shelf.waiting))

    def spec(self, name: str) -> KernelSpec:
        """The specification of that name.

        Raises:
            ComponentError: when there is none.
        """
        return self._shelf(name).spec

    def waiting(self, name: str) -> int:
        """How many kernels wait."""
        return len(self._shelf(name).waiting)

    async def warm(self, name: str) -> None:
        """Start kernels of that name ahead, and return when they wait.

        Raises:
            ComponentError: when there is no such kernel.
        """
        self.refill(name)
        await asyncio.gather(*self._shelf(name).tasks)

    async def take(self, name: str, *, folder: Path, environment: Mapping[str, str], start_seconds: float) -> Kernel:
        """A kernel that nobody has used: one that waits, or one that is started now.

        Only the latter is in *folder* and has *environment* over that of the pool.

        Raises:
            ComponentError: when it cannot be started within *start_seconds*.
        """
        shelf = self._shelf(name)
        current = await asyncio.to_thread(self._current) if shelf.waiting else None
        while shelf.waiting:
            kernel = shelf.waiting.pop(0)
            if not kernel.ended.done() and kernel.begun_with == current:
                count_cache(CACHE, is_hit=True)
                return kernel
            self._end(kernel)
        if self._limits.kernels:
            count_cache(CACHE, is_hit=False)
        return await start_kernel(
            shelf.spec, environment={**self._environment, **environment}, folder=folder, seconds=start_seconds
        )

    def refill(self, name: str) -> None:
        """Begin to start what is missing, as far as the memory goes."""
        shelf = self._shelf(name)
        if not shelf.spec.is_python:
            return  # nothing can be handed over to it
        missing = self._limits.kernels - len(shelf.waiting) - len(shelf.tasks)
        for _ in range(min(missing, self._affordable())):
            self._begin(shelf, self._add(name, shelf))

    async def _add(self, name: str, shelf: _Shelf) -> None:
        current = await asyncio.to_thread(self._current)
        try:
            kernel = await start_kernel(shelf.spec, environment=self._environment, seconds=self._limits.start_seconds)
        except ComponentError as error:
            # Whoever takes a kernel is told; this one was only to save time.
            logger.warning("no kernel could be started ahead: %s", error)
            return
        try:
            # What a first cell costs once, such as imports of IPython, is paid now.
            await kernel.run_silently("pass")
        except KernelEnded as ended:
            logger.warning("a kernel that was started ahead died: %s", ended.ending)
            await kernel.stop()
            return
        except asyncio.CancelledError:
            await kernel.stop()
            raise
        kernel.begun_with = current
        shelf.waiting.append(kernel)
        began = time.monotonic()
        kernel.ended.add_done_callback(lambda _: self._replace(name, kernel, began))

    def _replace(self, name: str, kernel: Kernel, began: float) -> None:
        """A kernel has ended. When it still waited, another takes its place."""
        shelf = self._shelves.get(name)
        if shelf is None or kernel not in shelf.waiting:
            return
        shelf.waiting.remove(kernel)
        self._end(kernel)
        if time.monotonic() - began > STURDY_SECONDS:
            self.refill(name)

    def _end(self, kernel: Kernel) -> None:
        # Beside what takes kernels: it may be cancelled, and a kernel that is stopped by half leaves its folder.
        self._endings.add(ending := asyncio.create_task(kernel.stop()))
        ending.add_done_callback(self._endings.discard)

    @staticmethod
    def _begin(shelf: _Shelf, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        shelf.tasks.add(task)
        task.add_done_callback(shelf.tasks.discard)

    def _shelf(self, name: str) -> _Shelf:
        if name not in self._shelves:
            self._shelves[name] = _Shelf(find_spec(name))
        return self._shelves[name]

    def _affordable(self) -> int:
        """How many more kernels may wait, by what those that wait take."""
        shelves = self._shelves.values()
        sizes = [_resident_bytes(kernel) for shelf in shelves for kernel in shelf.waiting]
        each = max(sizes, default=KERNEL_BYTES) or KERNEL_BYTES
        starting = sum(len(shelf.tasks) for shelf in shelves)
        free = min(self._limits.memory_bytes - sum(sizes), psutil.virtual_memory().available)
        return max(0, free // each - starting)


def _resident_bytes(kernel: Kernel) -> int:
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(kernel.pid).memory_info().rss)
    return 0
