"""The kernels of pages: each page has one, which ends with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

logger = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
LEFT_SECONDS = 60.0  #: without a page, as when a browser was killed or a laptop closed
OPENING_SECONDS = 180.0  #: for a page to come up


class PageKernels:
    """Ends kernels whose page is gone without saying so; a page that is closed ends its own.

    Args:
        manager: of all kernels of the server.
        clock: monotonic, in seconds.
    """

    def __init__(self, manager: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._manager, self._clock = manager, clock
        self._seen: dict[str, float] = {}  #: when each was last looked at, or is to be up
        self._task: asyncio.Task[None] | None = None

    def __getattr__(self, name: str) -> Any:
        """Whatever else Voilà asks of a manager."""
        return getattr(self._manager, name)

    async def start_kernel(self, *, env: Mapping[str, str], **options: Any) -> str:
        """Start one, and watch it. What a kernel is given beside it is the server's own; of Voilà's variables, none is needed."""
        kernel: str = await self._manager.start_kernel(**options)
        self._seen[kernel] = self._clock() + OPENING_SECONDS - LEFT_SECONDS
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._look_on())
        return kernel

    async def end(self, kernel: str) -> bool:
        """End one whose page is closed; whether it was one of ours."""
        is_ours = self._seen.pop(kernel, None) is not None
        if is_ours and kernel in self._manager.list_kernel_ids():
            await self._manager.shutdown_kernel(kernel, now=True)
        return is_ours

    async def look(self) -> None:
        """End those that nobody has been connected with for a while."""
        there = set(self._manager.list_kernel_ids())
        for kernel, seen in list(self._seen.items()):
            if kernel not in there:
                del self._seen[kernel]
            elif self._manager.kernel_model(kernel)["connections"] > 0:
                self._seen[kernel] = self._clock()
            elif self._clock() - seen > LEFT_SECONDS:
                logger.info("kernel %s: its page is gone", kernel)
                await self.end(kernel)

    async def _look_on(self) -> None:
        while self._seen:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception:
                logger.exception("kernels of pages could not be looked after")
