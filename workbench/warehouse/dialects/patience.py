"""Transactions that are repeated when another one was in the way."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from workbench.errors import RowsRefused, WarehouseUnavailable

T = TypeVar("T")

PATIENCE_SECONDS = 10.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.02, 1.0


def patiently(work: Callable[[], T], *, duplicates: bool = False) -> T:
    """Repeat what may succeed later, for 10 s; `commit` is not among it, since its caller repeats that.

    Args:
        work: one transaction.
        duplicates: whether a row that somebody else has just inserted is such a case.
    """
    deadline, wait = time.monotonic() + PATIENCE_SECONDS, FIRST_WAIT_SECONDS
    while True:
        try:
            return work()
        except (WarehouseUnavailable, RowsRefused) as error:
            refused = isinstance(error, RowsRefused) and not duplicates
            if refused or time.monotonic() > deadline:
                raise
            time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)
