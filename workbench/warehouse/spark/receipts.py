"""How many rows a job has written: told by its transaction, since Spark hands nothing back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa

from workbench.sections import WarehouseSettings
from workbench.warehouse.engine import make_engine, reported, transaction
from workbench.warehouse.schema import quoted, split_name

ARRIVES_SECONDS = 5.0  # when the job is committed, the notification is on its way


@contextmanager
def listening(settings: WarehouseSettings, channel: str) -> Iterator[Callable[[], int | None]]:
    """A function that returns the rows told on *channel*; None when the connection was lost meanwhile.

    Raises:
        WarehouseError: when the warehouse cannot be reached.
    """
    import psycopg

    engine = make_engine(settings)
    try:
        with reported(settings), engine.connect() as connection:
            listener: Any = connection.execution_options(isolation_level="AUTOCOMMIT").connection.driver_connection
            listener.execute(f"LISTEN {quoted(channel)}")

            def receipt() -> int | None:
                with suppress(psycopg.Error):
                    for told in listener.notifies(timeout=ARRIVES_SECONDS, stop_after=1):
                        return int(told.payload)
                return None

            yield receipt
    finally:
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
            engine.dispose()


def count_rows(settings: WarehouseSettings, options: Mapping[str, str]) -> int:
    """The rows of the part of a table that a job has replaced."""
    from workbench.warehouse.spark.options import write_options
    from workbench.warehouse.spark.publishing import replaced_condition

    found = write_options(options, overwrite=True, is_stream=False)
    where, values = replaced_condition(found.replace)
    table = quoted(*split_name(found.table)).replace(":", "\\:")
    with transaction(settings) as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {table} WHERE {where}"), values).scalar_one())
