"""Bulk loads of Arrow tables through PostgreSQL's binary COPY (ADBC)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa

from workbench.errors import RowsRefused, WarehouseError, WarehouseUnavailable
from workbench.loading import with_json_as_text
from workbench.sections import WarehouseSettings
from workbench.warehouse.engine import transaction, url
from workbench.warehouse.libpq import TRY_AGAIN, is_refusal, libpq_options
from workbench.warehouse.schema import ensure_table, quoted, split_name

# Classes of SQLSTATE (postgresql.org, "PostgreSQL Error Codes"): data exception, integrity constraint violation,
# a text that is too long for an index, RAISE in a trigger. A row that no page holds is of them; it has no stage either.
OF_A_ROW = ("22", "23", "54000", "P0001")
# What follows in a message of the server on what was wrong: a row's values, in which line of a COPY.
OF_THE_ROW = re.compile(r"\n(?:DETAIL|CONTEXT|QUERY):.*", re.DOTALL)
LOCK_SECONDS = 10
KEEPALIVES = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
LIMITS = {"transaction_timeout": "300s", **KEEPALIVES}


def open_bulk(settings: WarehouseSettings, *, limits: Mapping[str, str] = LIMITS) -> Any:
    """An ADBC connection in a transaction; waits at most 10 s for a lock.

    Args:
        settings: the warehouse.
        limits: what the server is asked to keep to; without `transaction_timeout` a load may take hours.

    Raises:
        adbc_driver_manager.Error: see `reported_bulk`.
    """
    from adbc_driver_postgresql import dbapi

    options = {**libpq_options(settings), "options": f"-clock_timeout={LOCK_SECONDS}s"}
    address = url(settings, "postgresql").update_query_dict(options)
    bulk = dbapi.connect(
        address.render_as_string(hide_password=False), conn_kwargs={"adbc.connection.autocommit": "false"}
    )
    try:
        set_limits(bulk, limits)
    except BaseException:
        bulk.close()
        raise
    return bulk


def set_limits(bulk: Any, limits: Mapping[str, str] = LIMITS) -> None:
    """Have the server let go what a worker holds that has stopped, as far as the server has the parameters."""
    with bulk.cursor() as cursor:
        for name, value in limits.items():
            cursor.execute(
                f"SELECT set_config(name, '{value}', false) FROM pg_settings WHERE name = '{name}' AND context = 'user'"
            )
            cursor.fetchall()
    bulk.commit()


@contextmanager
def all_the_time(cursor: Any) -> Iterator[None]:
    """Have no limit of time while a table is rewritten, which would be ended each time; then that of `LIMITS` anew."""
    _limit(cursor, "0")
    yield
    _limit(cursor, LIMITS["transaction_timeout"])


def _limit(cursor: Any, value: str) -> None:
    """Limit the transaction that is open, as far as the server can: from now on, not from when it began."""
    cursor.execute(
        f"SELECT set_config(name, '{value}', true) FROM pg_settings "
        "WHERE name = 'transaction_timeout' AND context = 'user'"
    )
    cursor.fetchall()


@contextmanager
def reported_bulk(settings: WarehouseSettings) -> Iterator[None]:
    """Turn ADBC's errors into ours.

    Raises:
        RowsRefused: when a value or a constraint was the cause; `reasons` is empty.
        WarehouseUnavailable: when trying again may help.
        WarehouseError: otherwise.
    """
    from adbc_driver_manager import AdbcStatusCode, Error

    try:
        yield
    except Error as error:
        where = f"{settings.host}:{settings.port}/{settings.database}"
        state = error.sqlstate or ""
        if state.startswith(OF_A_ROW):
            raise RowsRefused(
                f"the warehouse at {where} refused a row: {_without_row(error)}",
                reasons={},
                remedy="Change the table or the flow.",
            ) from None
        lost = not state and error.status_code in (AdbcStatusCode.IO, AdbcStatusCode.UNKNOWN, AdbcStatusCode.INTERNAL)
        if state.startswith(TRY_AGAIN) or (lost and not is_refusal(str(error))):
            raise WarehouseUnavailable(
                f"the warehouse at {where} did not answer or asks to try again: {str(error).splitlines()[0]}",
                remedy="`workbench status` shows whether it runs.",
            ) from None
        raise WarehouseError(
            f"the warehouse at {where} refused: {_without_row(error)}",
            remedy="`workbench status` shows whether it runs; the message above says what it refused.",
        ) from None


def _without_row(error: Exception) -> str:
    # It goes into the logs of flows, which nobody encrypts.
    return OF_THE_ROW.sub("", str(error))


def copy_rows(cursor: Any, schema: str, name: str, rows: pa.Table) -> None:
    """Append *rows* to an existing table inside the connection's transaction."""
    if rows.num_rows:
        cursor.adbc_ingest(name, with_json_as_text(rows), mode="append", db_schema_name=schema)


def replace_table(settings: WarehouseSettings, table: str, rows: pa.Table) -> None:
    """Make *rows* the whole content of *table*: readers see the old rows or the new, never a mixture.

    Raises:
        WarehouseError: when the table has other columns, or the warehouse refuses.
    """
    if settings.dialect != "postgresql":
        raise WarehouseError(
            f"tables are replaced in PostgreSQL only, not in {settings.dialect}", remedy="Use a PostgreSQL warehouse."
        )
    with transaction(settings) as connection:
        ensure_table(connection, table, rows.schema)
    target = quoted(*split_name(table))
    with reported_bulk(settings), closing(open_bulk(settings)) as bulk:
        with bulk.cursor() as cursor:
            # Two who replace at once do so one after the other; otherwise the rows of both would stay.
            cursor.execute(f"LOCK TABLE {target} IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute(f"DELETE FROM {target}")
            copy_rows(cursor, *split_name(table), rows)
        bulk.commit()
