"""Errors that come out of Spark as the text of a traceback, as the errors that they were."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from workbench.errors import WarehouseError, WarehouseUnavailable

_OURS = re.compile(r"^workbench\.errors\.(\w+): (.*?)(?:\n  Remedy: ([^\n]*))?$", re.MULTILINE)


@contextmanager
def reported_source() -> Iterator[None]:
    """Raise the error of ours that the data source has told; what else Spark raises stays as it is.

    Raises:
        WarehouseError: what a task or the driver has raised.
    """
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        found = find_error(str(error))
        if found is None:
            raise
        raise found from None


def find_error(text: str) -> WarehouseError | None:
    """Our error in the text of a traceback; None when there is none."""
    match = _OURS.search(text)
    if match is None:
        return None
    kind = WarehouseUnavailable if match[1] == "WarehouseUnavailable" else WarehouseError
    return kind(match[2], remedy=match[3] or "")
