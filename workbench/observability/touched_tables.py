"""Which tables the functions of a notebook touch, written down for whoever runs it and wants to know."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

PRIVATE = 0o600


def tell_tables(
    file: Path | None,
    *,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
    topics: Sequence[str] = (),
    sql: str = "",
) -> None:
    """Append a line to *file*; None is that nobody wants to know.

    A line that cannot be written is only logged: what a notebook computes does not depend on it.

    Args:
        file: of the settings.
        reads: tables, as `schema.table`.
        writes: the same.
        topics: that are read.
        sql: a statement, whose tables whoever reads the file finds out.
    """
    if file is None:
        return
    line = json.dumps({"reads": [*reads], "writes": [*writes], "topics": [*topics], "sql": sql}) + "\n"
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        logger.warning("which tables were touched could not be told: %s", error)
