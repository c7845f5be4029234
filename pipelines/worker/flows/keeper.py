"""Keeps flows running: takes those that nobody runs, watches their processes, and starts again what has ended.

In threads of its own, with a connection of its own, so that no step can hold it up.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from pipelines.definition.targets.flow import flow_hash
from pipelines.runner.flows.process import STOP_SECONDS
from pipelines.runner.flows.rules import Cause
from pipelines.store.database import Store
from pipelines.store.flows.holding import (
    Order,
    read_failed,
    read_orders,
    renew_flows,
    settle_stopped,
    take_flow,
)
from pipelines.store.records import BEAT_SECONDS, LEASE_SECONDS
from pipelines.worker.flows.held import HeldFlow
from pipelines.worker.surroundings import Surroundings
from workbench.errors import ClaimLost, StoreError
from workbench.logs.context import bound

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
AT_ONCE = 2  # taken at one look: other workers get some, too
# What runs is told to end so early that even what has to be killed is gone about when another worker may take it.
LATE_SECONDS = LEASE_SECONDS - STOP_SECONDS
LEAVE_SECONDS = 2 * STOP_SECONDS + 5.0  # a process ends, its guard sees to its tree, and the store is told


class FlowKeeper:
    """Keeps flows running from `start` to `close`, which lets go of them.

    Args:
        worker: its id.
        store: of one connection that notices silence within `SILENT_SECONDS`, for this alone; entered already.
        surroundings: where things are.
        chance: between 0 and 1, for the times between starts.
    """

    def __init__(
        self, worker: str, store: Store, surroundings: Surroundings, *, chance: Callable[[], float] = random.random
    ) -> None:
        self._worker, self._store, self._surroundings, self._chance = worker, store, surroundings, chance
        self._held: dict[str, HeldFlow] = {}
        self._lost: list[HeldFlow] = []  # another worker's; what still ends here
        self._tried: dict[str, str | None] = {}  # file by flow that has failed, so that it is tried once
        self._guard = threading.Lock()
        self._leaving, self._ended = threading.Event(), threading.Event()
        self._renewed = time.monotonic()  # when the leases of all that is held were counted from at the latest
        self._threads = [
            threading.Thread(target=each, name=f"flows-{each.__name__.strip('_')}", daemon=True)
            for each in (self._keep, self._watch)
        ]

    def start(self) -> None:
        """Begin."""
        for each in self._threads:
            each.start()

    def leave(self) -> None:
        """Begin to end; flows that run are told to end at once, and are other workers' then."""
        self._leaving.set()
        for each in self._now_held():
            each.end(Cause.LEAVE)

    def close(self) -> None:
        """End: wait until the flows have ended, for `LEAVE_SECONDS` at most."""
        self.leave()
        # What is left then ends with this process: its guard sees that we are gone.
        self._ended.wait(LEAVE_SECONDS)

    def _keep(self) -> None:
        while not (self._leaving.is_set() and not self._held and not self._lost):
            try:
                self.look()
            except StoreError as error:
                logger.warning("flows cannot be looked after: %s", error.message)
                if self._leaving.is_set() and all(each.is_over() for each in [*self._held.values(), *self._lost]):
                    break  # their leases end by themselves
            except Exception:
                # Flows go on running: their leases are what says for how long.
                logger.exception("flows could not be looked after")
            (self._ended if self._leaving.is_set() else self._leaving).wait(LOOK_SECONDS)
        self._ended.set()

    def _watch(self) -> None:
        """End what runs when the store is out of reach, however long the other thread waits for it."""
        while not self._ended.wait(LOOK_SECONDS):
            if self._is_late():
                for each in self._now_held():
                    each.end(Cause.LATE)

    def _is_late(self) -> bool:
        return time.monotonic() - self._renewed > LATE_SECONDS

    def _now_held(self) -> list[HeldFlow]:
        with self._guard:
            return list(self._held.values())

    def look(self) -> None:
        """See what is wanted and how things stand, once, and do what follows.

        Raises:
            StoreError: when the store does not answer or refuses.
        """
        # Counted from before the question: leases may have been renewed as early as that.
        orders, failed = self._ask(time.monotonic())
        self._lost = [each for each in self._lost if not each.is_over()]
        for each in self._now_held():
            self._advance(each, orders.get(each.claim.name))
        # What is taken after a question that hung would be ended at once; the next look asks anew.
        if not self._leaving.is_set() and not self._is_late():
            self._take(failed)

    def _ask(self, now: float) -> tuple[dict[str, Order], list[str]]:
        """What is wanted of the flows that are held, and which that have failed may be tried with another file."""
        names = [each.claim.name for each in self._now_held()]
        is_due = not names or now - self._renewed >= BEAT_SECONDS
        with self._store.transaction() as connection:
            if names and is_due:
                renew_flows(connection, self._worker, names)
            orders = read_orders(connection, self._worker)
            settle_stopped(connection)
            failed = read_failed(connection)
        if is_due:
            self._renewed = now
        return orders, [name for name, file in failed.items() if self._is_new(name, file)]

    def _is_new(self, name: str, failed_with: str | None) -> bool:
        # Each file once: on another machine it may be a third one, with which it has failed meanwhile.
        file = flow_hash(self._surroundings.project, name)
        return file not in {failed_with, self._tried.get(name, failed_with)}

    def _advance(self, held: HeldFlow, order: Order | None) -> None:
        with bound(flow=held.claim.name):
            self._advance_or_let_go(held, order)

    def _advance_or_let_go(self, held: HeldFlow, order: Order | None) -> None:
        try:
            if order is not None and order.fence == held.claim.fence:
                is_over = held.advance(self._store, order, is_leaving=self._leaving.is_set(), chance=self._chance())
                if is_over:
                    self._drop(held)
                return
        except ClaimLost:
            pass
        logger.warning("flow %s is another worker's now; it is ended here", held.claim.name)
        held.end(Cause.LATE)
        self._drop(held)
        self._lost.append(held)

    def _drop(self, held: HeldFlow) -> None:
        with self._guard:
            self._held.pop(held.claim.name, None)
        if held.file_failed_with:
            self._tried[held.claim.name] = held.file_failed_with

    def _take(self, changed: list[str]) -> None:
        for _ in range(AT_ONCE):
            with self._store.transaction() as connection:
                claim = take_flow(connection, self._worker, changed)
            if claim is None:
                return
            held = HeldFlow(claim, self._surroundings)
            with self._guard:
                self._held[claim.name] = held
            with bound(flow=claim.name):
                logger.info("flow %s is started", claim.name)
                held.begin(self._store, claim.generation)
