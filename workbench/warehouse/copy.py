"""Bulk loads of Arrow tables through PostgreSQL's binary COPY (ADBC)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from workbench.errors import WarehouseError
from workbench.sections import WarehouseSettings
from workbench.warehouse.engine import libpq_options, make_engine, reported, url
from workbench.warehouse.schema import ensure_table, quoted, split_name


@contextmanager
def bulk_connection(settings: WarehouseSettings) -> Iterator[Any]:
    """An ADBC connection whose transaction is committed by the caller and rolled back otherwise.

    Raises:
        WarehouseError: when the warehouse cannot be reached, or refuses what is sent.
    """
    from adbc_driver_manager import Error
    from adbc_driver_postgresql import dbapi

    address = url(settings, "postgresql").update_query_dict(dict(libpq_options(settings)))
    try:
        with dbapi.connect(address.render_as_string(hide_password=False)) as connection:
            yield connection
    except Error as error:
        where = f"{settings.host}:{settings.port}/{settings.database}"
        raise WarehouseError(
            f"the warehouse at {where} refused: {error}",
            remedy="`workbench status` shows whether it runs; the message above says what it refused.",
        ) from None


def copy_rows(connection: Any, table: str, rows: pa.Table) -> None:
    """Append *rows* to an existing table inside the connection's transaction."""
    if rows.num_rows:
        schema, name = split_name(table)
        with connection.cursor() as cursor:
            cursor.adbc_ingest(name, rows, mode="append", db_schema_name=schema)


def replace_table(settings: WarehouseSettings, table: str, rows: pa.Table) -> None:
    """Make *rows* the whole content of *table*: readers see the old rows or the new, never a mixture.

    Raises:
        WarehouseError: when the table has other columns, or the warehouse refuses.
    """
    engine = make_engine(settings)
    try:
        with reported(settings), engine.begin() as connection:
            ensure_table(connection, table, rows.schema)
    finally:
        engine.dispose()
    with bulk_connection(settings) as bulk:
        with bulk.cursor() as cursor:
            # Two who replace at once do so one after the other; otherwise the rows of both would stay.
            cursor.execute(f"LOCK TABLE {quoted(*split_name(table))} IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute(f"DELETE FROM {quoted(*split_name(table))}")
        copy_rows(bulk, table, rows)
        bulk.commit()
