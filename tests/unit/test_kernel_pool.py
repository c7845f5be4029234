"""Which of the kernels that wait is given to a notebook, without a kernel."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

from pipelines.engine.kernels import pool as pools
from pipelines.engine.kernels.pool import KernelPool, PoolLimits


class FakeKernel:
    """Answers at once."""

    def __init__(self) -> None:
        self.pid, self.ended, self.begun_with = os.getpid(), asyncio.get_running_loop().create_future(), None

    async def run_silently(self, code: str) -> None:
        pass

    async def stop(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def test_a_kernel_that_was_started_with_other_packages_is_given_to_nobody(monkeypatch):
    packages, started = ["old"], []

    async def start(*_: object, **__: object) -> FakeKernel:
        started.append(FakeKernel())
        return started[-1]

    async def take_two() -> tuple[FakeKernel, FakeKernel]:
        limits = PoolLimits(kernels=1)
        async with KernelPool(limits, environment={}, current=lambda: packages[-1]) as kernels:
            taken = []
            for installed in ("old", "new"):
                await kernels.warm("python3")
                packages.append(installed)
                taken.append(await kernels.take("python3", folder=Path(), environment={}, start_seconds=1))
            return taken[0], taken[1]

    monkeypatch.setattr(pools, "find_spec", lambda name: SimpleNamespace(name=name, is_python=True))
    monkeypatch.setattr(pools, "start_kernel", start)
    first, second = asyncio.run(take_two())

    assert [first, second] == [started[0], started[2]]
    assert [each.ended.done() for each in started] == [False, True, False]
