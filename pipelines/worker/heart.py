"""Beats: says to the store that the worker lives, and hears which claims it still has.

In a thread with a connection of its own, so that nothing that a step does can hold it up.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pipelines.store.claims.beating import Stop, beat, leave
from pipelines.store.database import Store
from pipelines.store.records import BEAT_SECONDS, LEASE_SECONDS, Claim, Worker
from workbench.errors import StoreError

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0  # after a beat that did not reach the store


class Heart:
    """A context manager that beats while it is open, and takes the worker off the list at its end.

    Args:
        store: of one connection that notices silence within `SILENT_SECONDS`, for this alone; entered already.
        worker: who beats.
        lost: called, in the event loop that enters it, with the id of an attempt whose claim is another's now.
        stop: called, in that loop, with the id of an attempt that is to be ended, and why; again at each beat.
    """

    def __init__(
        self,
        store: Store,
        worker: Worker,
        *,
        lost: Callable[[int], None],
        stop: Callable[[int, Stop], None],
    ) -> None:
        self._store, self._worker = store, worker
        self._lost, self._stop = lost, stop
        self._claims: dict[int, Claim] = {}
        self._guard = threading.Lock()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._reached = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join(BEAT_SECONDS)
        try:
            with self._store.transaction() as connection:
                leave(connection, self._worker.id)
        except StoreError as failure:
            logger.info("the worker could not say that it leaves: %s", failure)

    @property
    def is_late(self) -> bool:
        """Whether claims have ended by now as far as anybody here can know."""
        return time.monotonic() - self._reached > LEASE_SECONDS

    def hold(self, claim: Claim) -> None:
        """Keep a claim that was just taken."""
        with self._guard:
            self._claims[claim.attempt_id] = claim

    def release(self, claim: Claim) -> None:
        """Keep it no longer."""
        with self._guard:
            self._claims.pop(claim.attempt_id, None)

    def hurry(self) -> None:
        """Beat at once: there may be something to hear."""
        self._wake.set()

    def beat(self) -> None:
        """Beat once, and do what the answer says.

        Raises:
            StoreError: when the store does not answer or refuses.
        """
        with self._guard:
            claims = tuple(self._claims.values())
        # Counted from before the question: the lease may have been renewed as early as that.
        began = time.monotonic()
        with self._store.transaction() as connection:
            told = beat(connection, self._worker, claims)
        self._reached = began
        for attempt_id in told.lost:
            with self._guard:
                is_held = self._claims.pop(attempt_id, None) is not None
            if is_held:
                self._loop.call_soon_threadsafe(self._lost, attempt_id)
        for attempt_id, stop in told.stop.items():
            self._loop.call_soon_threadsafe(self._stop, attempt_id, stop)

    def _run(self) -> None:
        wait = BEAT_SECONDS
        while True:
            self._wake.wait(wait)
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                self.beat()
                # The store hung for longer than claims hold: until a beat is quick, nobody knows what does hold.
                wait = 0.0 if self.is_late else BEAT_SECONDS
            except StoreError as error:
                logger.warning("a beat did not reach the store: %s", error)
                wait = AGAIN_SECONDS
