"""How long a process may take to end: a database that is stopped, and not gone, keeps its threads waiting for ever."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

END_SECONDS = 30.0  # as `workbench up` gives it; leases and guards see to what is left


@contextmanager
def leaving_in_time(what: str) -> Iterator[Callable[[], None]]:
    """Gives what a process calls when it is told to end: it has left the context `END_SECONDS` later, or leaves as if killed.

    Args:
        what: as the log calls the process.
    """
    end = threading.Timer(END_SECONDS, _leave_as_it_is, (what,))
    end.daemon = True

    def begin() -> None:
        if end.ident is None:
            end.start()

    try:
        yield begin
    finally:
        end.cancel()


def _leave_as_it_is(what: str) -> None:
    logger.error("the %s has not ended %.0f s after it was told to; it leaves as it is", what, END_SECONDS)
    os._exit(1)
