"""The connection with which policies are applied and people's roles are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from pydantic import SecretStr

from workbench.errors import WarehouseError, WarehouseUnavailable
from workbench.sections import EMBEDDED_SUPERUSER, WarehouseSettings
from workbench.security.secrets import ensure_token
from workbench.settings import Settings
from workbench.warehouse.libpq import TRY_AGAIN, is_refusal, libpq_options

OLDEST = 160000  #: server_version_num; memberships without SET came with PostgreSQL 16
LOCK = 0x776F726B706F6C  # "workpol"
URGENT_MILLISECONDS = 1000  #: for which what ends somebody's rights waits for others who change them
#: Names mean what the catalog says, conditions are worded the same for everybody, and nobody waits for ever.
SESSION = "SET search_path = pg_catalog; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET standard_conforming_strings = on; SET lock_timeout = '30s'"
ALONE = f"SELECT pg_advisory_xact_lock({LOCK})"
CHANGED_BESIDE = (
    "tuple concurrently updated"  # what two changes of one role at once are told, without a state of its own
)


@dataclass(frozen=True)
class Administration:
    """How to reach a warehouse as somebody who may make roles; opens no connection yet."""

    warehouse: WarehouseSettings
    user: str
    password: SecretStr
    store: str = field(default="", compare=False)  #: the role that reads and writes the store of pipelines

    @classmethod
    def of(cls, settings: Settings, *, is_embedded: bool) -> Administration:
        """That of *settings*.

        Args:
            settings: those that lead to the running warehouse.
            is_embedded: whether it is the one that `workbench up` started.

        Raises:
            WarehouseError: when the warehouse cannot enforce policies, or nobody is named who may apply them.
        """
        warehouse, policies = _enforcing(settings), settings.policies
        store = settings.pipelines.as_warehouse(warehouse).user
        if policies.admin_user:
            return cls(warehouse, policies.admin_user, policies.admin_password, store)
        if not is_embedded:
            raise WarehouseError(
                f"nobody is named who may make roles in the warehouse at {warehouse.host}",
                remedy="Set WORKBENCH_POLICIES_ADMIN_USER and WORKBENCH_POLICIES_ADMIN_PASSWORD.",
            )
        password = ensure_token(settings.home / "keys" / "warehouse-superuser-password")
        return cls(warehouse, EMBEDDED_SUPERUSER, SecretStr(password), store)

    @classmethod
    def reading(cls, settings: Settings) -> Administration:
        """As DW_USER, for those who only read the catalog: everybody may.

        Raises:
            WarehouseError: when the warehouse cannot enforce policies.
        """
        warehouse = _enforcing(settings)
        return cls(warehouse, warehouse.user, warehouse.password)

    @contextmanager
    def transaction(self, *, is_urgent: bool = False) -> Iterator[psycopg.Connection[Any]]:
        """A transaction, one at a time among all that change policies or people's roles; rolled back when left by an error.

        Args:
            is_urgent: whether it goes on after a second without being alone: nobody who holds the lock keeps their rights by it.

        Raises:
            WarehouseError: when the server cannot be reached, refuses, or is too old.
        """
        with self._reported(), self._connect() as connection:
            if connection.info.server_version < OLDEST:
                version = connection.info.server_version // 10000
                raise WarehouseError(f"the warehouse is PostgreSQL {version}", remedy="Policies need 16 or later.")
            connection.execute(SESSION)
            _be_alone(connection, is_urgent=is_urgent)
            yield connection

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._told(error) from None

    def _told(self, error: psycopg.Error) -> WarehouseError:
        where = f"{self.warehouse.host}:{self.warehouse.port}/{self.warehouse.database}"
        message, state = str(error).strip(), error.sqlstate or ""
        # psycopg's OperationalError is also a lock that did not come in time, or a server that ends.
        if isinstance(error, psycopg.OperationalError) and (not state or is_refusal(message)):
            kind = WarehouseError if is_refusal(message) else WarehouseUnavailable
            return kind(
                f"the warehouse at {where} did not let {self.user} in or did not answer: {message.splitlines()[0]}",
                remedy="`workbench status` shows whether it runs; otherwise check DW_HOST and WORKBENCH_POLICIES_ADMIN_USER.",
            )
        if state.startswith(TRY_AGAIN) or CHANGED_BESIDE in message:
            return WarehouseUnavailable(
                f"the warehouse at {where} asks to try again: {message.splitlines()[0]}",
                remedy="Try again.",
            )
        return WarehouseError(
            f"the warehouse at {where} refused what {self.user} asked for: {message}",
            remedy="Nothing was changed. See that the role may make roles and owns the tables, or is a superuser.",
        )

    def _connect(self) -> psycopg.Connection[Any]:
        at = self.warehouse
        return psycopg.connect(
            host=at.host,
            port=at.port,
            dbname=at.database,
            user=self.user,
            password=self.password.get_secret_value(),
            # A name in a prepared statement goes on to mean the table that it meant first.
            prepare_threshold=None,
            **libpq_options(at),  # type: ignore[arg-type]
        )


def _be_alone(connection: psycopg.Connection[Any], *, is_urgent: bool) -> None:
    if not is_urgent:
        connection.execute(ALONE)
        return
    with suppress(psycopg.errors.LockNotAvailable), connection.transaction():
        connection.execute(f"SET LOCAL lock_timeout = {URGENT_MILLISECONDS}; {ALONE}; SET LOCAL lock_timeout = '30s'")


def _enforcing(settings: Settings) -> WarehouseSettings:
    """The warehouse, when it can enforce policies."""
    warehouse = settings.warehouse
    if warehouse.dialect == "duckdb":
        raise WarehouseError(
            "DuckDB cannot enforce policies: whoever opens the file reads all of it",
            remedy="Keep data that not everybody may read in PostgreSQL (WORKBENCH_WAREHOUSE_DIALECT=postgresql).",
        )
    if warehouse.dialect == "redshift":
        raise WarehouseError(
            "the workbench does not apply policies to Redshift; it writes the statements",
            remedy="Print them with `workbench policy plan --sql`, read them, and let an administrator of Redshift run them.",
        )
    if not warehouse.host:
        raise WarehouseError(
            "no warehouse is configured, and none is running here",
            remedy="Start one with `workbench up`, or set DW_HOST, DW_USER and DW_PASSWORD.",
        )
    return warehouse
