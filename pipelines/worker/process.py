"""The worker as a process: started by `workbench up`, `workbench pipelines worker` or systemd, ended by a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass

from pipelines.definition import Project
from pipelines.engine.record.keeping import recording_keys
from pipelines.lineage.telling import Lineage
from pipelines.processes.life import Sign
from pipelines.processes.opening import opened_store
from pipelines.store.database import Store, store_address
from pipelines.worker.surroundings import Surroundings
from pipelines.worker.worker import WorkerLoop, new_worker
from workbench.sections import without_keys
from workbench.settings import Settings

SIGN = "pipelines-worker"
MOST_SLOTS = 4  # without being asked for more: each may take a kernel's memory
SIGN_SECONDS = 5.0


def default_slots() -> int:
    """How many steps run at once: as many as there are processors, within reason."""
    return max(2, min(os.cpu_count() or 1, MOST_SLOTS))


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How a worker is run."""

    slots: int
    project: Project


def run_worker(settings: Settings, options: WorkerOptions) -> None:
    """Work until SIGTERM or SIGINT, then end in order.

    Raises:
        SettingsError: when no PostgreSQL is configured.
        StoreError: when it refuses.
        KeysetError: when outputs are to be encrypted and the keyset cannot be used.
    """
    asyncio.run(_work(settings, options))


async def _work(settings: Settings, options: WorkerOptions) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    surroundings = Surroundings(
        home=settings.home,
        project=options.project,
        environment=without_keys(os.environ),
        lineage=Lineage.wanted(settings),
        keys=recording_keys(settings),
    )
    opening = opened_store(settings, connections=options.slots + 3, is_stopping=stopping.is_set)
    store = await asyncio.to_thread(opening.__enter__)
    try:
        with Store(store_address(settings), connections=1) as heart_store:
            worker = WorkerLoop(new_worker(options.slots), store, heart_store, surroundings)
            signing = asyncio.create_task(_sign(Sign(settings.home, SIGN)))
            try:
                await worker.run(stopping)
            finally:
                signing.cancel()
    finally:
        opening.__exit__(None, None, None)


async def _sign(sign: Sign) -> None:
    while True:
        sign.give()
        await asyncio.sleep(SIGN_SECONDS)
