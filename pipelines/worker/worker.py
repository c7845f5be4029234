"""The worker: claims what its slots have room for, runs it, and ends in order when it is told to."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import Any

from pipelines.lineage.telling import lost_by
from pipelines.processes.listening import Listener
from pipelines.processes.naming import new_id
from pipelines.runner.running import Runner
from pipelines.states import State
from pipelines.store.claims.beating import Stop
from pipelines.store.claims.reaping import reap
from pipelines.store.claims.taking import take
from pipelines.store.database import Store
from pipelines.store.records import Claim, Worker
from pipelines.worker.attempts import Attempt
from pipelines.worker.heart import Heart
from pipelines.worker.surroundings import Surroundings
from workbench import __version__
from workbench.errors import StoreError

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # hints may be missed
REAP_SECONDS = 1.0  # as schedulers do; without one, workers see to it
LEAVE_SECONDS = 10.0  # that steps are given to end by themselves when the worker is to end


def new_worker(slots: int) -> Worker:
    """This process as a worker; each time another one."""
    return Worker(id=new_id(), host=socket.gethostname(), pid=os.getpid(), version=__version__, slots=slots)


class WorkerLoop:
    """Runs steps in one event loop until it is told to stop.

    Args:
        worker: who claims.
        store: entered, with at least as many connections as slots and two more.
        heart_store: entered, with a connection for the beats alone.
        surroundings: where things are.
        leave_seconds: how long steps may go on when the worker is to stop.
    """

    def __init__(
        self,
        worker: Worker,
        store: Store,
        heart_store: Store,
        surroundings: Surroundings,
        *,
        leave_seconds: float = LEAVE_SECONDS,
    ) -> None:
        self._worker, self._store, self._surroundings = worker, store, surroundings
        self._heart = Heart(heart_store, worker, lost=self._lose, stop=self._stop)
        self._leave_seconds = leave_seconds
        self._attempts: dict[int, tuple[Attempt, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._reaped = 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until *stopping* is set and nothing runs any more.

        Raises:
            StoreError: when the store refuses the first beat.
        """
        self._loop = asyncio.get_running_loop()
        with self._heart, Listener(self._store, self._hear_hint):
            async with Runner(environment=self._surroundings.environment) as runner:
                stopped = asyncio.create_task(stopping.wait())
                stopped.add_done_callback(lambda _: self._wake.set())
                watching = asyncio.create_task(self._watch())
                claiming: asyncio.Task[bool] | None = None
                try:
                    while not stopping.is_set():
                        claiming = asyncio.create_task(self._claim(runner, stopping))
                        await asyncio.wait({claiming, stopped}, return_when=asyncio.FIRST_COMPLETED)
                        if claiming.done() and not claiming.result():
                            await self._sleep()
                finally:
                    stopped.cancel()
                    await self._leave(claiming)
                    watching.cancel()

    async def _watch(self) -> None:
        # Beside the loop: a claim may hang for longer than others hold.
        while True:
            self._lose_what_is_late()
            await asyncio.sleep(POLL_SECONDS)

    async def _claim(self, runner: Runner, stopping: asyncio.Event) -> bool:
        """Begin one more step; False when there is none, no room, or no saying how long a claim would hold."""
        self._wake.clear()
        if self._heart.is_late or len(self._attempts) >= self._worker.slots:
            return False
        try:
            claim = await asyncio.to_thread(self._take, stopping)
        except StoreError as error:
            logger.warning("no step can be claimed: %s", error)
            return False
        if claim is None:
            return False
        attempt = Attempt(claim, self._store, self._surroundings)
        task = asyncio.create_task(attempt.run(runner), name=f"run-{claim.run_id}-{claim.step}")
        self._attempts[claim.attempt_id] = (attempt, task)
        task.add_done_callback(lambda _: self._ended(claim, task))
        # Not before it is known here: that it is lost may be heard at once.
        self._heart.hold(claim)
        return True

    def _take(self, stopping: asyncio.Event) -> Claim | None:
        if time.monotonic() - self._reaped > REAP_SECONDS:
            self._reaped = time.monotonic()
            reap(self._store, messages=lost_by(self._surroundings.lineage))
        with self._store.transaction() as connection:
            claim = take(connection, self._worker.id)
            if self._heart.is_late or stopping.is_set():
                # It would be lost at once. Taken back before it is committed, it is no attempt.
                connection.rollback()
                return None
        return claim

    def _ended(self, claim: Claim, task: asyncio.Task[None]) -> None:
        self._heart.release(claim)
        del self._attempts[claim.attempt_id]
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The claim ends with its lease; what is wrong with us is no fault of the step.
            logger.error("run %s, step %s could not be worked on", claim.run_id, claim.step, exc_info=error)

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _leave(self, claiming: asyncio.Task[bool] | None) -> None:
        """Let steps end by themselves for a while; those that do not are another worker's at once."""
        tasks: list[asyncio.Task[Any]] = [task for _, task in self._attempts.values()]
        if claiming is not None:
            # What it has claimed in the last moment is to be given back, too.
            tasks.append(claiming)
        if tasks:
            await asyncio.wait(tasks, timeout=self._leave_seconds)
        if claiming is not None:
            claiming.cancel()
        for attempt, _ in self._attempts.values():
            attempt.stop(Stop(State.LOST, f"worker {self._worker.id} was told to end"))
        while self._attempts:
            await asyncio.wait([task for _, task in self._attempts.values()], timeout=POLL_SECONDS)

    def _lose_what_is_late(self) -> None:
        if self._heart.is_late:
            for attempt_id in [*self._attempts]:
                self._lose(attempt_id)

    def _hear_hint(self, hint: str) -> None:
        if hint == "stop":
            self._heart.hurry()
        if hint in {"queue", ""}:
            self._loop.call_soon_threadsafe(self._wake.set)

    def _lose(self, attempt_id: int) -> None:
        if found := self._attempts.get(attempt_id):
            attempt, task = found
            if not task.cancelling():
                claim = attempt.claim
                logger.warning("run %s, step %s is another worker's now; it is ended here", claim.run_id, claim.step)
                task.cancel()

    def _stop(self, attempt_id: int, stop: Stop) -> None:
        if found := self._attempts.get(attempt_id):
            found[0].stop(stop)
