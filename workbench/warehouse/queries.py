"""The statements of a cell: bound values, one transaction, no more rows than are asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from workbench.errors import QueryRefused
from workbench.querying import Answer, Catalog, Column, Statement
from workbench.sections import WarehouseSettings
from workbench.warehouse.engine import make_engine, reported

CURSOR = "workbench_rows"
DECLARE = f"DECLARE {CURSOR} NO SCROLL CURSOR FOR "
NOT_IN_A_TRANSACTION = "25001"  # SQLSTATE (postgresql.org, "Error Codes")
COUNTS = (["Count"], ["Success"])  # what DuckDB answers when there is no answer
TRANSACTION_VERBS = {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"}
NUMBERS = re.compile(r"(small|big|huge|tiny|u)?int|numeric|decimal|real|double|float|serial|oid$|money", re.IGNORECASE)
CATALOG_SECONDS = 5
CATALOG_COLUMNS = 50_000
CATALOG_QUERY = f"""
SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_catalog = current_database()
ORDER BY 1, 2, ordinal_position LIMIT {CATALOG_COLUMNS}"""


def run_statements(
    settings: WarehouseSettings,
    statements: Sequence[Statement],
    values: Mapping[str, object],
    *,
    limit: int | None = None,
) -> list[Answer]:
    """Run *statements* in one transaction, which is committed when all of them have worked.

    An interrupt cancels the statement at the server, and nothing is kept.

    Args:
        settings: the warehouse.
        statements: in their order.
        values: the value of each parameter, bound by the driver.
        limit: the most rows to fetch of each; None fetches all.

    Raises:
        QueryRefused: saying which statement, and where in it.
        WarehouseError: when the warehouse cannot be reached.
    """
    _refuse_transactions(statements)
    answers = []
    with _opened(settings) as engine:
        try:
            with engine.begin() as connection:
                for number, statement in enumerate(statements):
                    answers.append(_run(connection, statement, number, values, limit))
        except QueryRefused as error:
            if len(statements) > 1 or error.code != NOT_IN_A_TRANSACTION:
                raise
            # VACUUM and its like: refused before they have begun, and alone in the cell.
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                return [_run(connection, statements[0], 0, values, None)]
    return answers


def read_catalog(settings: WarehouseSettings) -> Catalog:
    """Schemas, tables and columns that this account may see.

    Raises:
        WarehouseError: when the warehouse cannot be reached.
    """
    tables: dict[str, dict[str, dict[str, str]]] = {}
    with _opened(settings) as engine, engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text(f"SET LOCAL statement_timeout = '{CATALOG_SECONDS}s'"))
        for schema, table, column, kind in connection.execute(sa.text(CATALOG_QUERY)):
            tables.setdefault(schema, {}).setdefault(table, {})[column] = kind
        searched = connection.execute(sa.text("SELECT current_schemas(false)")).scalar_one()
    return Catalog(tables=tables, searched=tuple(searched))


@contextmanager
def _opened(settings: WarehouseSettings) -> Iterator[sa.Engine]:
    if settings.dialect == "duckdb":
        from workbench.warehouse.dialects.duckdb_file import make_file_engine, reported_file

        engine, told = make_file_engine(settings), reported_file(settings)
    else:
        engine, told = make_engine(settings), reported(settings)
    try:
        with told:
            yield engine
    finally:
        engine.dispose()


def _refuse_transactions(statements: Sequence[Statement]) -> None:
    for number, statement in enumerate(statements):
        if statement.verb in TRANSACTION_VERBS:
            raise QueryRefused(
                f"{statement.verb} is not for a cell: a cell is one transaction already",
                statement=number,
                position=0,
                remedy="Leave it out: a cell is committed when all its statements have worked, else nothing is kept.",
            )


def _run(
    connection: sa.Connection, statement: Statement, number: int, values: Mapping[str, object], limit: int | None
) -> Answer:
    # A cursor of the server, so that rows that nobody looks at are not sent.
    prefix = DECLARE if statement.reads and limit is not None and connection.dialect.name == "postgresql" else ""
    bound = {name: values[name] for name in statement.names}
    try:
        result = _execute(connection, _text(statement, prefix), bound)
        if prefix:
            result = connection.execute(sa.text(f"FETCH {int(limit or 0) + 1} FROM {CURSOR}"))
        answer = _answer(result, limit)
        if prefix:
            connection.execute(sa.text(f"CLOSE {CURSOR}"))
    except exc.StatementError as error:
        raise _refused(error, statement, number, len(prefix)) from None
    is_count = connection.dialect.name == "duckdb" and not statement.reads and not answer.rows
    return replace(answer, columns=()) if is_count and [each.name for each in answer.columns] in COUNTS else answer


def _execute(connection: sa.Connection, text: sa.TextClause, values: Mapping[str, object]) -> sa.CursorResult[Any]:
    """Execute a statement, which an interrupt cancels: psycopg does that itself, DuckDB not in a kernel."""
    if connection.dialect.name != "duckdb":
        return connection.execute(text, values)
    driver: Any = connection.connection.driver_connection
    with ThreadPoolExecutor(max_workers=1) as beside:
        done = beside.submit(connection.execute, text, values)
        try:
            return done.result()
        except KeyboardInterrupt:
            driver.interrupt()
            raise


def _text(statement: Statement, prefix: str) -> sa.TextClause:
    """The statement for SQLAlchemy: its parameters are parameters, and every other colon is a colon."""
    parts, end = [prefix], 0
    for each in statement.parameters:
        parts += [_escaped(statement.text[end : each.start]), f":{each.name}"]
        end = each.end
    return sa.text("".join([*parts, _escaped(statement.text[end:])]))


def _escaped(text: str) -> str:
    return text.replace(":", "\\:")


def _answer(result: sa.CursorResult[Any], limit: int | None) -> Answer:
    if not result.returns_rows:
        return Answer(changed=result.rowcount if result.rowcount >= 0 else None)
    assert result.cursor is not None, "it has rows"
    columns = tuple(_column(each) for each in result.cursor.description or ())
    rows = [tuple(row) for row in (result.fetchall() if limit is None else result.fetchmany(limit + 1))]
    cut = limit is not None and len(rows) > limit
    result.close()
    return Answer(columns=columns, rows=tuple(rows[:limit]), is_cut=cut)


def _column(described: Any) -> Column:
    kind = str(getattr(described, "type_display", None) or described[1]).lower()
    return Column(name=str(described[0]), type=kind, is_number=bool(NUMBERS.match(kind)) and not kind.endswith("]"))


def _refused(error: exc.StatementError, statement: Statement, number: int, before: int) -> Exception:
    """What the driver said, as a refusal of this statement; a lost connection stays what it is."""
    told = error.orig
    diagnosis = getattr(told, "diag", None)
    state = getattr(diagnosis, "sqlstate", None)
    if diagnosis is not None and state:
        if state.startswith(("08", "57P")):
            return error
        details = [diagnosis.message_primary, diagnosis.message_detail, diagnosis.message_hint]
        position = diagnosis.statement_position
        return QueryRefused(
            "\n".join(filter(None, details)),
            statement=number,
            position=_position(statement, int(position) - 1 - before) if position else None,
            code=state,
        )
    if isinstance(error, exc.OperationalError | exc.InterfaceError) and type(told).__module__.startswith("psycopg"):
        return error
    return QueryRefused(str(told or error).strip(), statement=number)


def _position(statement: Statement, sent: int) -> int:
    """Where in the statement as written a character of the statement as sent is: there `:name` is `$1`."""
    numbers = {name: index + 1 for index, name in enumerate(statement.names)}
    shift = 0
    for each in statement.parameters:
        length = len(f"${numbers[each.name]}")
        if each.start + shift >= sent:
            break
        shift -= (each.end - each.start) - length
    return max(0, min(sent - shift, len(statement.text)))
