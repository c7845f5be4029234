"""Which rows of a load a table refuses, by constraint or trigger: tried in halves, and rolled back."""

from __future__ import annotations

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import exc

from workbench.loading import JSON, Target
from workbench.warehouse.copy import OF_A_ROW
from workbench.warehouse.merge import merge_statement
from workbench.warehouse.schema import literal, quoted, split_name

STAGE = "workbench_probe"
REASON_CHARACTERS = 300


def find_refused(connection: sa.Connection, target: Target, rows: pa.Table) -> dict[int, str]:
    """The reason for each row that cannot be written after those before it. Writes nothing.

    Args:
        connection: not in a transaction; PostgreSQL.
        target: the table.
        rows: what was to be written.
    """
    table = quoted(*split_name(target.table))
    names = ", ".join(quoted(name) for name in rows.column_names)
    refused: dict[int, str] = {}
    with connection.begin() as transaction:
        connection.execute(
            literal(
                f"CREATE TEMP TABLE {STAGE} ON COMMIT DROP AS SELECT {_unbounded(rows)}, 0 AS workbench_row FROM {table} WITH NO DATA"
            )
        )
        _fill(connection, rows)
        pending = [(0, rows.num_rows)]
        while pending:
            start, end = pending.pop()
            where = f"workbench_row >= {start} AND workbench_row < {end}"
            if target.key:
                statement = merge_statement(table, STAGE, rows.column_names, target.key, where)
            else:
                statement = f"INSERT INTO {table} ({names}) SELECT {names} FROM {STAGE} WHERE {where}"
            savepoint = connection.begin_nested()
            try:
                connection.execute(literal(statement))
            except exc.DBAPIError as error:
                if not str(getattr(error.orig, "sqlstate", "")).startswith(OF_A_ROW):
                    raise
                savepoint.rollback()
                if end - start == 1:
                    refused[start] = str(error.orig).strip().replace("\0", "\\0")[:REASON_CHARACTERS]
                else:
                    middle = (start + end) // 2
                    pending += [(middle, end), (start, middle)]  # the earlier half is tried first
            else:
                savepoint.commit()
        transaction.rollback()
    return refused


def _unbounded(rows: pa.Table) -> str:
    """The columns, texts without a limit: one that is too long is refused by the table, not by the stage."""
    columns = [(quoted(field.name), pa.types.is_string(field.type)) for field in rows.schema]
    return ", ".join(f"{name}::text AS {name}" if is_text else name for name, is_text in columns)


def _fill(connection: sa.Connection, rows: pa.Table) -> None:
    names = ", ".join(quoted(name) for name in rows.column_names)
    driver = connection.connection.driver_connection
    assert driver is not None
    columns = [
        (column.combine_chunks().storage if column.type == JSON else column).to_pylist() for column in rows.columns
    ]
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY pg_temp.{STAGE} ({names}, workbench_row) FROM STDIN") as copy,
    ):
        for number, values in enumerate(zip(*columns, strict=True)):
            copy.write_row((*values, number))
