"""The worker as a process: started by `workbench up`, `workbench pipelines worker` or systemd, ended by a signal."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pipelines.definition import Project
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

logger = logging.getLogger(__name__)

SIGN = "pipelines-worker"
END_SECONDS = 30.0  # as `workbench up` gives it; leases and guards see to what is left
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
    """Work until SIGTERM or SIGINT, then end in order; as if it were killed, when that takes more than `END_SECONDS`.

    Raises:
        SettingsError: when no PostgreSQL is configured.
        StoreError: when it refuses.
        KeysetError: when outputs are to be encrypted and the keyset cannot be used.
    """
    end = threading.Timer(END_SECONDS, _leave_as_it_is)
    end.daemon = True
    try:
        asyncio.run(_work(settings, options, end))
    finally:
        # Not before: the loop waits for its threads.
        end.cancel()


def _leave_as_it_is() -> None:
    """End the process: threads that a store keeps waiting which is stopped, and not gone, do not end by themselves."""
    logger.error("the worker has not ended %.0f s after it was told to; it leaves as it is", END_SECONDS)
    os._exit(1)


async def _work(settings: Settings, options: WorkerOptions, end: threading.Timer) -> None:
    stopping = asyncio.Event()

    def stop() -> None:
        if not stopping.is_set():
            stopping.set()
            end.start()

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
