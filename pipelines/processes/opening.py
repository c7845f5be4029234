"""Opens the store for a process that may be started before its database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.store.database import Store, store_address
from workbench.errors import StoreUnavailable
from workbench.settings import Settings

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
TELL_SECONDS = 30.0


@contextmanager
def opened_store(
    settings: Settings, *, connections: int = 5, is_stopping: Callable[[], bool] = lambda: False
) -> Iterator[Store]:
    """The store with its tables up to date; waits for a database that is not there yet.

    Raises:
        SettingsError: when no PostgreSQL is configured.
        StoreUnavailable: when *is_stopping* became true before the database answered.
        StoreError: when it refuses.
    """
    with Store(store_address(settings), connections=connections) as store:
        told = -TELL_SECONDS
        while True:
            try:
                store.migrate()
                break
            except StoreUnavailable as error:
                if is_stopping():
                    raise
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    logger.warning("waiting for the store: %s", error)
                time.sleep(AGAIN_SECONDS)
        yield store
