"""SQLAlchemy for Redshift, as far as flows need it, over any driver of the DB-API; and what its errors mean."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect, PGIdentifierPreparer, PGTypeCompiler

from workbench.errors import WarehouseError, WarehouseUnavailable
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects.reflection import ColumnReflection, QuotesEverything
from workbench.warehouse.libpq import CONNECT_SECONDS, is_refusal

VARCHAR_BYTES = 65_535  # docs.aws.amazon.com, "Character types"
VARBYTE_BYTES = 16_777_216  # docs.aws.amazon.com, "VARBYTE type"
# Names keep their case only so (docs.aws.amazon.com, "enable_case_sensitive_identifier").
FIRST_STATEMENT = "SET enable_case_sensitive_identifier TO true"
TRY_AGAIN = (
    "1023",
    "serializable isolation violation",
    "could not serialize",
    "deadlock detected",
    "already exists",
    "system requested abort",
)


@dataclass(frozen=True)
class Driver:
    """A module of the DB-API and how to connect with it."""

    module: Any
    connect: Callable[[], Any]


def make_driver(settings: WarehouseSettings) -> Driver:
    """AWS's own driver, which is not among the workbench's dependencies.

    Raises:
        WarehouseError: when it is not installed.
    """
    try:
        module = importlib.import_module("redshift_connector")
    except ImportError:
        raise WarehouseError(
            "the driver for Redshift is not installed", remedy="Install it as docs/warehouse.md says."
        ) from None
    sslmode = settings.effective_sslmode

    def connect() -> Any:
        return module.connect(
            host=settings.host,
            port=settings.port,
            database=settings.database,
            user=settings.user,
            password=settings.password.get_secret_value(),
            ssl=sslmode != "disable",
            # The driver knows no encryption without verification.
            sslmode="verify-full" if sslmode == "verify-full" else "verify-ca",
            timeout=CONNECT_SECONDS,
            application_name="workbench",
        )

    return Driver(module, connect)


def make_redshift_engine(driver: Driver) -> sa.Engine:
    """A SQLAlchemy engine over *driver*; opens no connection yet."""
    sa.dialects.registry.register("redshift.workbench", __name__, "RedshiftDialect")

    def connect() -> Any:
        connection = driver.connect()
        cursor = connection.cursor()
        cursor.execute(FIRST_STATEMENT)
        connection.commit()
        cursor.close()
        return connection

    return sa.create_engine("redshift+workbench://", module=driver.module, creator=connect, pool_size=2)


@contextmanager
def reported_redshift(settings: WarehouseSettings) -> Iterator[None]:
    """Turn errors of driver and object storage into ours.

    Raises:
        WarehouseUnavailable: when trying again may help.
        WarehouseError: otherwise.
    """
    try:
        yield
    except exc.StatementError as error:
        message = str(error.orig or error).strip()
        where = f"{settings.host}:{settings.port}/{settings.database}"
        lost = isinstance(error, exc.OperationalError | exc.InterfaceError) and not is_refusal(message)
        if lost or any(text in message.lower() for text in TRY_AGAIN):
            raise WarehouseUnavailable(
                f"the warehouse at {where} did not answer or asks to try again: {message}",
                remedy="Another transaction has written the same tables, or the cluster is away.",
            ) from None
        raise WarehouseError(
            f"the warehouse at {where} refused: {message}", remedy="STL_LOAD_ERRORS says what a COPY refused."
        ) from None
    except OSError as error:
        kind = WarehouseError if "ACCESS_DENIED" in str(error) else WarehouseUnavailable
        raise kind(
            f"the files at {settings.staging_url} could not be written: {error}",
            remedy="Check WORKBENCH_WAREHOUSE_STAGING_URL, and the rights of this machine on the bucket.",
        ) from None


class _Types(PGTypeCompiler):
    # TEXT would become VARCHAR(256) there.
    def visit_TEXT(self, type_: Any, **_: Any) -> str:  # noqa: N802 - SQLAlchemy's name
        return f"VARCHAR({type_.length or VARCHAR_BYTES})"

    def visit_BYTEA(self, type_: Any, **_: Any) -> str:  # noqa: N802 - SQLAlchemy's name
        return f"VARBYTE({VARBYTE_BYTES})"

    def visit_JSON(self, type_: Any, **_: Any) -> str:  # noqa: N802 - SQLAlchemy's name
        return "SUPER"


class _Statements(PGCompiler):
    def visit_now_func(self, *_: Any, **__: Any) -> str:
        """now() runs on the leader node only, and not on tables (docs.aws.amazon.com, "GETDATE")."""
        return "GETDATE()"


class _Names(QuotesEverything, PGIdentifierPreparer):
    """`partition` and others are reserved there, and not in PostgreSQL."""


class RedshiftDialect(ColumnReflection, PGDialect):  # type: ignore[misc]
    """PostgreSQL without what Redshift lacks: RETURNING, catalogs, TEXT, BYTEA, JSON, now()."""

    name = "redshift"
    driver = "workbench"
    default_paramstyle = "format"
    supports_statement_cache = False
    supports_sane_rowcount = True
    insert_returning = update_returning = delete_returning = False
    type_compiler_cls = _Types
    statement_compiler = _Statements
    preparer = _Names
    columns_query = (
        "SELECT column_name, data_type, is_nullable, numeric_precision, numeric_scale, character_maximum_length "
        "FROM svv_columns WHERE table_schema = :schema AND table_name = :table ORDER BY ordinal_position"
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "paramstyle": "format"})  # type: ignore[no-untyped-call]

    def initialize(self, connection: sa.Connection) -> None:
        """Ask nothing: Redshift answers as PostgreSQL 8.0.2, which SQLAlchemy does not know."""
        self.server_version_info = (8, 0, 2)
        self.default_schema_name = "public"
