"""SQLAlchemy engines for the warehouse, and queries with bound parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import exc

from workbench.errors import WarehouseError, WarehouseUnavailable
from workbench.sections import WarehouseSettings
from workbench.warehouse.libpq import TRY_AGAIN, is_refusal, libpq_options

if TYPE_CHECKING:
    import pandas as pd


def make_engine(settings: WarehouseSettings, *, lock_seconds: int = 0) -> sa.Engine:
    """An engine for *settings*; opens no connection yet.

    Args:
        settings: the warehouse.
        lock_seconds: how long a statement waits for a lock; 0 is for ever.

    Raises:
        WarehouseError: when no warehouse is configured or running.
    """
    options = {**libpq_options(settings), "options": f"-c lock_timeout={lock_seconds}s"}
    return sa.create_engine(url(settings, "postgresql+psycopg"), connect_args=options, pool_pre_ping=True, pool_size=2)


def url(settings: WarehouseSettings, driver: str) -> sa.URL:
    """The address with the password in it; its repr masks the password.

    Raises:
        WarehouseError: when no warehouse is configured or running.
    """
    if not settings.host:
        raise WarehouseError(
            "no warehouse is configured, and none is running here",
            remedy="Start one with `workbench up`, or set DW_HOST, DW_USER and DW_PASSWORD.",
        )
    return sa.URL.create(
        driver,
        username=settings.user,
        password=settings.password.get_secret_value(),
        host=settings.host,
        port=settings.port,
        database=settings.database,
    )


@contextmanager
def reported(settings: WarehouseSettings) -> Iterator[None]:
    """Turn the driver's errors into WarehouseError, which says where, what and what to do."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _told(settings, error) from None
    except exc.StatementError as error:
        raise WarehouseError(
            f"the query could not be sent: {_first_line(error)}", remedy="Give a value for each :name in the query."
        ) from None


@contextmanager
def transaction(settings: WarehouseSettings) -> Iterator[sa.Connection]:
    """A transaction on a connection of its own.

    Raises:
        WarehouseError: when the warehouse cannot be reached or refuses.
    """
    engine = make_engine(settings)
    try:
        with reported(settings), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def read_frame(settings: WarehouseSettings, query: str, parameters: Mapping[str, object]) -> pd.DataFrame:
    """The whole answer of *query* as a pandas DataFrame.

    Raises:
        WarehouseError: when the warehouse cannot be reached or refuses the query.
    """
    import pandas as pd

    from workbench.warehouse.frames import exact_frame

    if settings.dialect == "duckdb":
        from workbench.warehouse.dialects.duckdb_file import make_file_engine, reported_file

        engine, told = make_file_engine(settings), reported_file(settings)
    else:
        engine, told = make_engine(settings), reported(settings)
    try:
        with told, engine.begin() as connection:
            # Without parameters a colon is a colon, in '{"a":1}' for one.
            statement = sa.text(query if parameters else query.replace(":", "\\:"))
            result = connection.execute(statement, dict(parameters))
            if not result.returns_rows:
                return pd.DataFrame({"rows": [result.rowcount]})
            return exact_frame(result.fetchall(), list(result.keys()))
    finally:
        engine.dispose()


def _told(settings: WarehouseSettings, error: exc.DBAPIError) -> WarehouseError:
    where, state = f"{settings.host}:{settings.port}/{settings.database}", getattr(error.orig, "sqlstate", None) or ""
    # psycopg's OperationalError is also a lock that did not come in time, a query that took too long, a row too big.
    is_of_connection = isinstance(error, exc.OperationalError | exc.InterfaceError)
    if is_of_connection and (not state or is_refusal(_message(error))):
        kind = WarehouseError if is_refusal(_message(error)) else WarehouseUnavailable
        return kind(
            f"the warehouse at {where} did not let {settings.user} in or did not answer: {_first_line(error)}",
            remedy="`workbench status` shows whether it runs; otherwise check DW_HOST, DW_PORT, DW_USER and DW_PASSWORD.",
        )
    if state.startswith(TRY_AGAIN):
        return WarehouseUnavailable(
            f"the warehouse at {where} asks to try again: {_first_line(error)}",
            remedy="Try again. While a server recovers, or stands by for another one, it can only be read.",
        )
    return WarehouseError(f"the warehouse refused the query: {_message(error)}", remedy="Correct the query.")


def _first_line(error: exc.StatementError) -> str:
    return _message(error).splitlines()[0]


def _message(error: exc.StatementError) -> str:
    return str(error.orig or error).strip()
