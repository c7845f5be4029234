"""Carries out an order in this process and its children: claims what it names, runs it, and records how it ended.

What our worker does, for steps that another engine has picked. The store judges: a step that has
succeeded is not run again, one that another process still runs is waited for, and one that may not be
tried again after how it ended is not, however often the other engine asks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.definition import Project
from pipelines.elsewhere.order import Order
from pipelines.elsewhere.runs import ensure_run
from pipelines.lineage.delivery import couriers
from pipelines.lineage.telling import lost_by
from pipelines.planning.runs import Plan
from pipelines.processes.opening import opened_store
from pipelines.runner.folders import attempt_folder, log_of
from pipelines.runner.running import Runner
from pipelines.states import State
from pipelines.store.claims.beating import Stop
from pipelines.store.claims.reaping import reap
from pipelines.store.claims.taking import take_of_run
from pipelines.store.database import Store, store_address
from pipelines.store.pages.runs import RunPage, read_run
from pipelines.store.records import SILENT_SECONDS, Claim
from pipelines.store.runs.stopping import repair
from pipelines.worker.attempts import Attempt
from pipelines.worker.heart import Heart
from pipelines.worker.surroundings import Surroundings
from pipelines.worker.worker import new_worker
from workbench.errors import NoSuchRun, StoreError
from workbench.settings import Settings

logger = logging.getLogger(__name__)

CONNECTIONS = 4
LOOK_SECONDS = 0.5
TURN_SECONDS = 60.0  # for what comes before a step that was asked for to be through in the store as well
NAME = "the engine that schedules it"
Shown = Callable[[Path], AbstractContextManager[object]]


@dataclass(frozen=True)
class Executed:
    """How it stands when nothing of it runs any more."""

    run_id: int
    state: State  #: of the step, or of the run
    reason: str


def execute(
    settings: Settings, project: Project, plan: Plan, order: Order, *, shown: Shown = lambda _: nullcontext()
) -> Executed:
    """Run what is ordered; return when it has ended, or is to be tried again by whoever has ordered it.

    SIGTERM and SIGINT end what runs; the step is then `lost`, and may be tried again.

    Args:
        settings: where the store and the home folder are.
        project: where notebooks and the like are.
        plan: of the pipeline.
        order: what to run.
        shown: entered with the log of each attempt while the attempt runs.

    Raises:
        ParametersRefused: when a value does not fit.
        NoSuchRun: when the run has no such step.
        StoreError: when the store refuses, or a step is asked for whose turn it is not.
        KeysetError: when outputs are to be encrypted and the keyset cannot be used.
    """
    return asyncio.run(_execute(settings, project, plan, order, shown))


async def _execute(settings: Settings, project: Project, plan: Plan, order: Order, shown: Shown) -> Executed:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    opening = opened_store(settings, connections=CONNECTIONS, is_stopping=stopping.is_set)
    store = await asyncio.to_thread(opening.__enter__)
    try:
        run_id = await asyncio.to_thread(ensure_run, store, plan, order, requested_by=NAME)
        surroundings = Surroundings.of(settings, project, os.environ)
        # There may be no scheduler of ours that delivers.
        heart_store = Store(store_address(settings), connections=1, silent_seconds=SILENT_SECONDS)
        with heart_store, couriers(store, settings.pipelines):
            return await _Execution(store, surroundings, run_id, order, stopping=stopping, shown=shown).run(heart_store)
    finally:
        opening.__exit__(None, None, None)


class _Execution:
    """One order that is being carried out."""

    def __init__(
        self,
        store: Store,
        surroundings: Surroundings,
        run_id: int,
        order: Order,
        *,
        stopping: asyncio.Event,
        shown: Shown,
    ) -> None:
        self._store, self._surroundings = store, surroundings
        self._run_id, self._order = run_id, order
        self._stopping, self._shown = stopping, shown
        self._worker = new_worker(1)
        self._working: tuple[Attempt, asyncio.Task[None]] | None = None
        self._attempts = 0
        self._began = time.monotonic()

    async def run(self, heart_store: Store) -> Executed:
        """Until there is nothing more to do here."""
        if self._order.is_new_cycle:
            await asyncio.to_thread(self._begin_again)
        stopped = asyncio.create_task(self._stop_when_told())
        heart = Heart(heart_store, self._worker, lost=self._lose, stop=self._stop)
        waiting = 0 if self._order.step else 1
        try:
            with heart:
                async with Runner(environment=self._surroundings.environment, waiting=waiting) as runner:
                    while (done := await asyncio.to_thread(self._verdict)) is None:
                        if not await self._work(heart, runner):
                            await asyncio.sleep(LOOK_SECONDS)
                    return done
        finally:
            stopped.cancel()

    def _begin_again(self) -> None:
        with self._store.transaction() as connection:
            step = _step(read_run(connection, self._run_id, events=0), self._order.step)
            if State(step["state"]).is_end:
                repair(connection, self._run_id, by=NAME, steps=[step["name"]])

    def _verdict(self) -> Executed | None:
        """How it stands; None while there is something to run, or to wait for."""
        with self._store.transaction() as connection:
            page = read_run(connection, self._run_id, events=0)
        found = page.run if self._order.step is None else _step(page, self._order.step)
        state = State(found["state"])
        # A step that failed and may be tried again waits: whoever has ordered it says when.
        is_ours_no_more = self._order.step is not None and self._attempts and state is State.QUEUED
        if state.is_end or is_ours_no_more or self._stopping.is_set():
            return Executed(self._run_id, state, found["reason"] or "")
        self._check_turn(page)
        return None

    def _check_turn(self, page: RunPage) -> None:
        """Let nobody wait for ever for what the other engine takes for done."""
        if self._order.step is None:
            return
        step = _step(page, self._order.step)
        states = {each["name"]: each["state"] for each in page.steps}
        before = [f"{name}, which is {states[name]}" for name in step["after"] if states[name] != State.SUCCEEDED]
        if not before:
            self._began = time.monotonic()
        elif time.monotonic() - self._began > TURN_SECONDS:
            raise StoreError(
                f"step {step['name']} of run {self._run_id} comes after {' and '.join(before)}",
                remedy="Let the other engine run that first: clear it there.",
            )

    async def _work(self, heart: Heart, runner: Runner) -> bool:
        """Run one attempt; False when none may begin now."""
        claim = None if heart.is_late else await asyncio.to_thread(self._take, heart)
        if claim is None:
            return False
        self._attempts += 1
        attempt = Attempt(claim, self._store, self._surroundings)
        folder = attempt_folder(self._surroundings.home, claim.run_id, claim.step, claim.number, claim.attempt_id)
        task = asyncio.create_task(attempt.run(runner), name=f"run-{claim.run_id}-{claim.step}")
        self._working = (attempt, task)
        # Not before it is known here: that it is lost may be heard at once.
        heart.hold(claim)
        if self._stopping.is_set():
            attempt.stop(_told_to_end())
        try:
            with self._shown(log_of(folder, encrypted=self._surroundings.keys is not None)):
                while not (await asyncio.wait({task}, timeout=LOOK_SECONDS))[0]:
                    # Cut off from the store for so long, somebody else may have the step.
                    if heart.is_late and not task.cancelling():
                        task.cancel()
        finally:
            self._working = None
            heart.release(claim)
        if not task.cancelled():
            task.result()
        return True

    def _take(self, heart: Heart) -> Claim | None:
        # What a process that was killed has left is taken over when its lease has ended.
        reap(self._store, messages=lost_by(self._surroundings.lineage))
        with self._store.transaction() as connection:
            claim = take_of_run(connection, self._worker.id, self._run_id, self._order.step)
            if heart.is_late:
                # It would be lost at once. Taken back before it is committed, it is no attempt.
                connection.rollback()
                return None
        return claim

    async def _stop_when_told(self) -> None:
        await self._stopping.wait()
        if self._working is not None:
            self._working[0].stop(_told_to_end())

    def _lose(self, attempt_id: int) -> None:
        if self._working is not None and self._working[0].claim.attempt_id == attempt_id:
            logger.warning("run %s is worked on by another process now; it is ended here", self._run_id)
            self._working[1].cancel()

    def _stop(self, attempt_id: int, stop: Stop) -> None:
        if self._working is not None and self._working[0].claim.attempt_id == attempt_id:
            self._working[0].stop(stop)


def _told_to_end() -> Stop:
    return Stop(State.LOST, f"process {os.getpid()} was told to end by {NAME}")


def _step(page: RunPage, name: str | None) -> dict[str, Any]:
    for each in page.steps:
        if each["name"] == name:
            return each
    known = ", ".join(each["name"] for each in page.steps)
    raise NoSuchRun(f"run {page.run['id']} has no step {name}", remedy=f"It has {known}; compile the pipeline again.")
