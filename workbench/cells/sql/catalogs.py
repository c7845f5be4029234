"""What tables there are, remembered for some seconds and read beside the cell, so that completion never waits long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from workbench.querying import Catalog

logger = logging.getLogger(__name__)
FRESH_SECONDS = 15.0
AFTER_FAILURE_SECONDS = 10.0  # a warehouse that is away is not asked with every key
LONGEST_WAIT_SECONDS = 0.8  # JupyterLab gives up after one second


class CatalogCache:
    """One engine's catalog. `read` never raises and waits only where nothing usable is known yet.

    Args:
        load: reads the catalog anew; called in a thread of its own.
    """

    def __init__(self, load: Callable[[], Catalog]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._catalog = Catalog()
        self._is_known = False
        self._expires = 0.0
        self._version = 0
        self._reading: threading.Event | None = None

    def read(self, wait_seconds: float = LONGEST_WAIT_SECONDS) -> Catalog:
        """The catalog; an old one while a new one is read, an empty one when none can be had in time."""
        with self._lock:
            if time.monotonic() < self._expires:
                return self._catalog
            done = self._reading
            if done is None:
                done = self._reading = threading.Event()
                threading.Thread(target=self._refresh, args=(done, self._version), daemon=True).start()
            is_usable = self._is_known
        if not is_usable:
            done.wait(wait_seconds)
        return self._catalog

    def forget(self) -> None:
        """Called after a statement that may have made or dropped tables: the next `read` waits for a new catalog."""
        with self._lock:
            self._is_known, self._expires, self._reading = False, 0.0, None
            self._version += 1

    def _refresh(self, done: threading.Event, version: int) -> None:
        try:
            catalog, lasts = self._load(), FRESH_SECONDS
        except Exception:
            logger.debug("the catalog could not be read", exc_info=True)
            catalog, lasts = None, AFTER_FAILURE_SECONDS
        with self._lock:
            if version == self._version:
                self._reading = None
                self._expires = time.monotonic() + lasts
                self._is_known = True
                self._catalog = catalog or self._catalog
        done.set()
