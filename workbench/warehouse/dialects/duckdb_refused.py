"""Which records of a load a DuckDB table refuses. DuckDB has no savepoints: each try is a transaction, rolled back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import duckdb
import pyarrow as pa

from workbench.warehouse.dialects.duckdb_file import OF_A_ROW

REASON_CHARACTERS = 300


def find_refused(
    connection: duckdb.DuckDBPyConnection,
    rows: pa.Table,
    write: Callable[[pa.Table], None],
    deleted: pa.Table,
    delete: Callable[[pa.Table], None],
) -> tuple[dict[int, str], dict[int, str]]:
    """The reason for each row that cannot be written after those before it, and for each deletion. Writes nothing.

    Args:
        connection: not in a transaction.
        rows: what was to be written.
        write: writes a part of it.
        deleted: keys that were to be deleted before that.
        delete: deletes a part of them; called before `write`, with none when there are none.
    """

    def refusal(part: pa.Table, first: pa.Table, *, deletes: bool = False) -> str:
        connection.begin()
        try:
            delete(first)
            (delete if deletes else write)(part)
        except OF_A_ROW as error:
            return str(error).strip().replace("\0", "\\0")[:REASON_CHARACTERS]
        finally:
            # A refused statement has ended the transaction already.
            with contextlib.suppress(duckdb.TransactionException):
                connection.rollback()
        return ""

    deletions = _by_themselves(deleted, lambda part: refusal(part, deleted.slice(0, 0), deletes=True))
    gone = deleted.take(pa.array([each for each in range(deleted.num_rows) if each not in deletions], pa.int64()))
    refused = _by_themselves(rows, lambda part: refusal(part, gone))
    # What is left may clash with each other: a unique index.
    left = [number for number in range(rows.num_rows) if number not in refused]
    while left and (reason := refusal(rows.take(pa.array(left, pa.int64())), gone)):
        fits, breaks = 0, len(left)  # lengths of beginnings
        while breaks - fits > 1:
            middle = (fits + breaks) // 2
            found = refusal(rows.take(pa.array(left[:middle], pa.int64())), gone)
            fits, breaks, reason = (fits, middle, found) if found else (middle, breaks, reason)
        refused[left.pop(breaks - 1)] = reason
    return dict(sorted(refused.items())), deletions


def _by_themselves(rows: pa.Table, refusal: Callable[[pa.Table], str]) -> dict[int, str]:
    refused: dict[int, str] = {}
    pending = [(0, rows.num_rows)]
    while pending:
        start, end = pending.pop()
        reason = refusal(rows.slice(start, end - start))
        if reason and end - start == 1:
            refused[start] = reason
        elif reason:
            middle = (start + end) // 2
            # Halves that clash only with each other fit on their own, and are looked at later.
            pending += [(middle, end), (start, middle)]
    return refused
