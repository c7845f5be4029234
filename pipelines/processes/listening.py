"""Waits for hints of the store in a thread, so that whoever sleeps is woken at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from pipelines.store.database import Store, notify
from workbench.errors import StoreError

logger = logging.getLogger(__name__)

FAREWELL = "farewell"
LISTEN_SECONDS = 5.0  #: without a hint, after which the connection is made anew
AGAIN_SECONDS = 1.0


class Listener:
    """A context manager that passes on hints, from a thread of its own.

    Args:
        store: entered already; one of its connections is held.
        hear: called with each hint, and with an empty one each time that hints may have been missed.
    """

    def __init__(self, store: Store, hear: Callable[[str], None]) -> None:
        self._store, self._hear = store, hear
        self._stopping = threading.Event()
        # A daemon: a wait for the network does not hold up the end of the process.
        self._thread = threading.Thread(target=self._listen, name="listen", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        # A hint of our own ends the wait for one.
        with suppress(StoreError), self._store.transaction() as connection:
            notify(connection, FAREWELL)
        self._thread.join(LISTEN_SECONDS + AGAIN_SECONDS)

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                for hint in self._store.hints(LISTEN_SECONDS):
                    if self._stopping.is_set():
                        return
                    self._hear(hint)
            except StoreError as error:
                # Whoever works with the store says so, too; hints only save time.
                logger.info("no hints: %s", error.message)
                self._stopping.wait(AGAIN_SECONDS)
