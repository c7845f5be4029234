"""Which records of a load a table refuses, by constraint or trigger: tried in halves, and rolled back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import psycopg
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import exc

from workbench.errors import RowsRefused
from workbench.loading import JSON, Target
from workbench.warehouse.copy import OF_A_ROW, OF_THE_ROW
from workbench.warehouse.merge import delete_statement, merge_statement
from workbench.warehouse.schema import literal, quoted, split_name

STAGE, DELETED = "workbench_probe", "workbench_probe_deleted"
REASON_CHARACTERS = 300
AT_ONCE = "SET CONSTRAINTS ALL IMMEDIATE"
Attempt = Callable[[int, int], str]  #: at the rows from … to before …; the reason when it is refused


def find_refused(
    connection: sa.Connection,
    target: Target,
    rows: pa.Table,
    deleted: pa.Table | None = None,
    changes: Sequence[str] = (),
) -> tuple[dict[int, str], dict[int, str]]:
    """The reason for each row that cannot be written after those before it, and for each deletion. Writes nothing.

    Args:
        connection: not in a transaction; PostgreSQL.
        target: the table.
        rows: what was to be written.
        deleted: keys that were to be deleted before that.
        changes: statements that give the table the columns of the rows.
    """
    found: tuple[dict[int, str], dict[int, str]] = {}, {}
    # A constraint that is deferred is looked at when the transaction ends, and no row by itself offends it before.
    for first in (changes, (*changes, AT_ONCE)):
        with connection.begin() as transaction:
            found = _probe(connection, target, rows, deleted, first)
            transaction.rollback()
        if any(found):
            break
    return found


def _probe(
    connection: sa.Connection, target: Target, rows: pa.Table, deleted: pa.Table | None, first: Sequence[str]
) -> tuple[dict[int, str], dict[int, str]]:
    table = quoted(*split_name(target.table))
    names = ", ".join(quoted(name) for name in rows.column_names)

    def write(where: str) -> str:
        if target.key:
            return merge_statement(table, STAGE, rows.column_names, target.key, where)
        return f"INSERT INTO {table} ({names}) SELECT {names} FROM {STAGE} WHERE {where}"

    for statement in first:
        connection.execute(literal(statement))
    deletions: dict[int, str] = {}
    if deleted is not None and deleted.num_rows:
        gone = deleted.column_names
        _stage(connection, DELETED, table, deleted)
        deletions = _refused_deletions(
            _attempts(connection, lambda where: delete_statement(table, DELETED, gone, target.key, where)),
            deleted.num_rows,
        )
    _stage(connection, STAGE, table, rows)
    return _by_halves(_attempts(connection, write), rows.num_rows), deletions


def rows_refused(target: Target, rows: Mapping[int, str], deletions: Mapping[int, str]) -> RowsRefused:
    """The error for what `find_refused` has found."""
    what = "rows and tombstones" if deletions else "rows"
    first = next(iter({**deletions, **rows}.values()))
    return RowsRefused(
        f"{len(rows) + len(deletions)} {what} do not fit {target.table}: {first}",
        reasons=rows,
        deletions=deletions,
        remedy="See the dead letters.",
    )


def unbounded(rows: pa.Table) -> str:
    """The columns, texts without a limit: one that is too long is refused by the table, not by the stage."""
    columns = [(quoted(field.name), pa.types.is_string(field.type)) for field in rows.schema]
    return ", ".join(f"{name}::text AS {name}" if is_text else name for name, is_text in columns)


def _refused_deletions(attempt: Attempt, count: int) -> dict[int, str]:
    refused = _by_halves(attempt, count)
    # Rows that refer to each other go in one statement, or the one that refers first: it may be in the other half.
    while freed := [number for number in reversed(refused) if not attempt(number, number + 1)]:
        for number in freed:
            del refused[number]
    return refused


def _by_halves(attempt: Attempt, count: int) -> dict[int, str]:
    refused: dict[int, str] = {}
    pending = [(0, count)]
    while pending:
        start, end = pending.pop()
        reason = attempt(start, end)
        if reason and end - start == 1:
            refused[start] = reason
        elif reason:
            middle = (start + end) // 2
            pending += [(middle, end), (start, middle)]  # the earlier half is tried first
    return refused


def _attempts(connection: sa.Connection, statement: Callable[[str], str]) -> Attempt:
    """Tries at rows of a stage, of which those that are not refused stay until the transaction ends."""

    def attempt(start: int, end: int) -> str:
        savepoint = connection.begin_nested()
        try:
            connection.execute(literal(statement(f"workbench_row >= {start} AND workbench_row < {end}")))
        except exc.DBAPIError as error:
            if not str(getattr(error.orig, "sqlstate", "")).startswith(OF_A_ROW):
                raise
            savepoint.rollback()
            return str(error.orig).strip().replace("\0", "\\0")[:REASON_CHARACTERS] or "refused"
        savepoint.commit()
        return ""

    return attempt


def _stage(connection: sa.Connection, stage: str, table: str, rows: pa.Table) -> None:
    connection.execute(
        literal(
            f"CREATE TEMP TABLE {stage} ON COMMIT DROP AS "
            f"SELECT {unbounded(rows)}, 0 AS workbench_row FROM {table} WITH NO DATA"
        )
    )
    names = ", ".join(quoted(name) for name in rows.column_names)
    driver = connection.connection.driver_connection
    assert driver is not None
    columns = [
        (column.combine_chunks().storage if column.type == JSON else column).to_pylist() for column in rows.columns
    ]
    try:
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY pg_temp.{stage} ({names}, workbench_row) FROM STDIN") as copy,
        ):
            for number, values in enumerate(zip(*columns, strict=True)):
                copy.write_row((*values, number))
    except psycopg.Error as error:
        # Told where SQLAlchemy's are, without the line of the COPY, which is a record.
        told = type(error)(OF_THE_ROW.sub("", str(error)))
        raise exc.DBAPIError.instance(None, None, told, psycopg.Error) from None
