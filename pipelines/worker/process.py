"""The worker as a process: started by `workbench up`, `workbench pipelines worker` or systemd, ended by a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pipelines.definition import Project
from pipelines.processes.leaving import leaving_in_time
from pipelines.processes.life import Sign
from pipelines.processes.opening import opened_store
from pipelines.processes.signing import give_signs
from pipelines.store.database import Store, store_address
from pipelines.store.records import SILENT_SECONDS
from pipelines.worker.flows.keeper import FlowKeeper
from pipelines.worker.measuring import measuring
from pipelines.worker.surroundings import Surroundings
from pipelines.worker.worker import WorkerLoop, new_worker
from workbench.settings import Settings

SIGN = "pipelines-worker"
MOST_SLOTS = 4  # without being asked for more: each may take a kernel's memory


def default_slots() -> int:
    """How many steps run at once: as many as there are processors, within reason."""
    return max(2, min(os.cpu_count() or 1, MOST_SLOTS))


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How a worker is run."""

    slots: int
    project: Project
    flows: bool = True  #: whether it keeps flows running beside its steps


def run_worker(settings: Settings, options: WorkerOptions) -> None:
    """Work until SIGTERM or SIGINT, then end in order; as if it were killed, when that takes more than `leaving.END_SECONDS`.

    Raises:
        SettingsError: when no PostgreSQL is configured.
        StoreError: when it refuses.
        KeysetError: when outputs are to be encrypted and the keyset cannot be used.
    """
    # The loop waits for its threads, too.
    with leaving_in_time("worker") as begin_to_leave:
        asyncio.run(_work(settings, options, begin_to_leave))


async def _work(settings: Settings, options: WorkerOptions, begin_to_leave: Callable[[], None]) -> None:
    stopping = asyncio.Event()

    def stop() -> None:
        stopping.set()
        begin_to_leave()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    with measuring(settings.home) as environment:
        await _work_measured(settings, options, stopping, environment)


async def _work_measured(
    settings: Settings, options: WorkerOptions, stopping: asyncio.Event, environment: Mapping[str, str]
) -> None:
    surroundings = Surroundings.of(settings, options.project, {**os.environ, **environment})
    opening = opened_store(settings, connections=options.slots + 3, is_stopping=stopping.is_set)
    store = await asyncio.to_thread(opening.__enter__)
    try:
        with Store(store_address(settings), connections=1, silent_seconds=SILENT_SECONDS) as heart_store:
            worker = new_worker(options.slots)
            loop = WorkerLoop(worker, store, heart_store, surroundings)
            signing = asyncio.create_task(give_signs(Sign(settings.home, SIGN), store))
            try:
                async with _kept_flows(settings, options, worker.id, surroundings, stopping):
                    await loop.run(stopping)
            finally:
                signing.cancel()
    finally:
        opening.__exit__(None, None, None)


@asynccontextmanager
async def _kept_flows(
    settings: Settings, options: WorkerOptions, worker: str, surroundings: Surroundings, stopping: asyncio.Event
) -> AsyncIterator[None]:
    """Keep flows running; they are told to end when steps are, not after them."""
    if not options.flows:
        yield
        return
    with Store(store_address(settings), connections=1, silent_seconds=SILENT_SECONDS) as store:
        keeper = FlowKeeper(worker, store, surroundings)
        leaving = asyncio.create_task(stopping.wait())
        leaving.add_done_callback(lambda _: keeper.leave())
        keeper.start()
        try:
            yield
        finally:
            leaving.cancel()
            await asyncio.to_thread(keeper.close)
