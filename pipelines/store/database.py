"""The connection to the store: where it is, one transaction at a time, its errors in our words, and its hints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc

from pipelines.store.migrations import migrate
from pipelines.store.tables import SCHEMA
from workbench.errors import SettingsError, StoreError, StoreUnavailable
from workbench.sections import WarehouseSettings
from workbench.settings import Settings
from workbench.warehouse.engine import url
from workbench.warehouse.libpq import TRY_AGAIN, is_refusal, libpq_options, silence_options

CHANNEL = "pipelines"  #: of NOTIFY
IDLE_SECONDS = 10  #: shorter than a lease: whoever takes over a step waits for no lock of who had it
SESSION = {
    "search_path": SCHEMA,  # tables of the warehouse that have our names are out of the way
    "timezone": "UTC",
    "lock_timeout": "30s",
    # A transaction that is left open would keep vacuum from the queue, and one of a process that was stopped
    # (SIGSTOP) others from its step. Nothing of ours thinks for so long in the midst of one.
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
    # The queue changes faster than its statistics: without them PostgreSQL sorts all that waits to find what is first,
    # instead of taking the first of the index.
    "enable_sort": "off",
}


def store_address(settings: Settings) -> WarehouseSettings:
    """Where the store is: WORKBENCH_PIPELINES_DATABASE_URL, else the warehouse.

    Raises:
        SettingsError: when neither is a PostgreSQL.
    """
    if not settings.has_store:
        problem = (
            f"WORKBENCH_WAREHOUSE_DIALECT is {settings.warehouse.dialect}, which cannot hold the runs of pipelines."
        )
        raise SettingsError([f"{problem} Set WORKBENCH_PIPELINES_DATABASE_URL to a PostgreSQL."])
    return settings.pipelines.as_warehouse(settings.warehouse)


class Store:
    """A pool of connections to the store; entered before it is used, and then shared by threads.

    Args:
        address: of `store_address`.
        connections: how many transactions may be open at once.
        silent_seconds: after which a connection is given up whose other end is silent, when not after a minute.
    """

    def __init__(
        self, address: WarehouseSettings, *, connections: int = 5, silent_seconds: float | None = None
    ) -> None:
        self._address = address
        self._connections = connections
        self._silence = {} if silent_seconds is None else silence_options(silent_seconds)
        self._engine: sa.Engine | None = None

    def __enter__(self) -> Self:
        options = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
        ours = {"options": options, "application_name": "workbench pipelines"}
        arguments = {**libpq_options(self._address), **self._silence, **ours}
        self._engine = sa.create_engine(
            url(self._address, "postgresql+psycopg"),
            connect_args=arguments,
            pool_size=self._connections,
            max_overflow=0,
            pool_pre_ping=True,
            # A statement's values are in no error and no log.
            hide_parameters=True,
            json_serializer=_as_json,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """All that is done with the connection is done together, or not at all.

        Raises:
            StoreUnavailable: when the transaction may be tried again. If the connection broke at its
                end, nobody knows whether it was committed. To make runs, to move a schedule on, to stop and to
                finish may be repeated all the same; a step that was claimed and not heard of is taken over.
            StoreError: when the store refuses.
        """
        with self._reported(), self._opened().begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Bring the tables to this version; see `migrations.migrate`."""
        with self.transaction() as connection:
            migrate(connection)

    def hints(self, timeout_seconds: float) -> Iterator[str]:
        """What changed, as it changes: `queue`, `run 17`, `stop`, `outbox`; ends when nothing came for *timeout_seconds*.

        The first is empty: from then on nothing is missed that this connection hears of.

        A hint may be missed and may come twice. Who waits for one looks into the tables first, and
        again after each timeout: they are the truth.

        Raises:
            StoreUnavailable: when the connection breaks.
        """
        engine = self._opened().execution_options(isolation_level="AUTOCOMMIT")
        with self._reported(), engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            connection.exec_driver_sql(f"LISTEN {CHANNEL}")
            try:
                yield ""
                while found := list(driver.notifies(timeout=timeout_seconds, stop_after=1)):
                    yield from (each.payload for each in found)
            except psycopg.Error as error:
                raise StoreUnavailable(
                    f"the connection that waits for hints broke: {error}", remedy="Wait again."
                ) from None
            finally:
                # Never back into the pool: it would go on collecting hints.
                connection.invalidate()

    def _opened(self) -> sa.Engine:
        assert self._engine is not None, "use the store as a context manager"
        return self._engine

    @contextmanager
    def _reported(self) -> Iterator[None]:
        address = self._address
        where = f"{address.host}:{address.port}/{address.database}"
        try:
            yield
        except exc.DBAPIError as error:
            raise _as_store_error(error, where, address.user) from None
        except exc.StatementError as error:
            # SQLAlchemy wraps what `_as_json` raises, though not always.
            raise (error.orig if isinstance(error.orig, StoreError) else error) from None
        except exc.TimeoutError:
            raise StoreUnavailable(
                f"all {self._connections} connections to {where} are in use", remedy="Try again."
            ) from None


def _as_store_error(error: exc.DBAPIError, where: str, role: str) -> StoreError:
    code = str(getattr(error.orig, "sqlstate", None) or "")
    said = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
    if code in {"42P01", "3F000", "42703"}:
        return StoreError(
            f"the tables of pipelines at {where} are missing or too old: {said}",
            remedy="Bring them up to date with `Store.migrate()`.",
        )
    if code.startswith("23"):
        return StoreError(
            f"the store of pipelines at {where} holds nothing that this could belong to: {said}",
            remedy="Register the pipeline and its definition first.",
        )
    broken = error.connection_invalidated or (not code and isinstance(error, exc.OperationalError | exc.InterfaceError))
    if code.startswith(TRY_AGAIN) or (broken and not is_refusal(said)):
        return StoreUnavailable(
            f"the store of pipelines at {where} did not answer, or asks to try again: {said}",
            remedy="`workbench status` shows whether the database runs.",
        )
    return StoreError(
        f"the store of pipelines at {where} refused {role}: {said}",
        remedy="Check WORKBENCH_PIPELINES_DATABASE_URL, or DW_* without it, and the rights of the role.",
    )


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"what was to be kept is no JSON: {error}",
            remedy="Write dates, decimals, NaN and infinity as the codec of parameters does.",
        ) from None


def notify(connection: sa.Connection, *subjects: str) -> None:
    """Hint at what this transaction changes, once it is committed."""
    for subject in subjects:
        connection.execute(sa.func.pg_notify(CHANNEL, subject).select())
