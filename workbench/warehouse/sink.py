"""Warehouse tables as Spark DataFrames, and back. Spark's executors speak to the warehouse by JDBC."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.sections import WarehouseSettings
from workbench.warehouse.engine import make_engine, reported
from workbench.warehouse.schema import lock_ddl, quoted, split_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FETCH_ROWS = 10_000


def load_table(spark: SparkSession, settings: WarehouseSettings, table: str) -> DataFrame:
    """The rows of *table* as a lazy DataFrame; Spark pushes filters and column choices down to the warehouse."""
    schema, name = split_name(table)
    return (
        spark.read.format("jdbc")
        .options(**_options(settings), dbtable=quoted(schema, name), fetchsize=str(FETCH_ROWS))
        .load()
    )


def save_table(
    frame: DataFrame, settings: WarehouseSettings, table: str, *, replace: Mapping[str, object] | None = None
) -> int:
    """Write *frame* into *table*; returns its number of rows.

    Executors write a staging table; one transaction then removes the old rows and adds the new,
    so that readers see either all of one or all of the other, and a second run gives the same.

    Args:
        frame: the rows.
        settings: the warehouse.
        table: `schema.table`, made when it is not there.
        replace: the column values whose rows the frame replaces, such as `{"month": 1}`;
            None replaces all rows.

    Raises:
        WarehouseError: when the warehouse refuses; the table is as it was.
    """
    schema, name = split_name(table)
    if replace is not None and not replace:
        raise WarehouseError(
            "replace is empty", remedy="Name the columns and values to replace, or leave it out to replace all rows."
        )
    staging = f"staging_{uuid4().hex}"
    engine = make_engine(settings)
    try:
        with reported(settings), engine.begin() as connection:
            lock_ddl(connection)
            connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
        frame.write.format("jdbc").options(
            **_options(settings), dbtable=quoted(schema, staging), batchsize=str(FETCH_ROWS)
        ).mode("error").save()
        with reported(settings), engine.begin() as connection:
            return _publish(connection, schema, name, staging, replace or {})
    finally:
        # What went wrong before this is told, not that the staging table could not be dropped.
        with suppress(sa.exc.SQLAlchemyError), engine.begin() as connection:
            connection.execute(sa.text(f"DROP TABLE IF EXISTS {quoted(schema, staging)}"))
        engine.dispose()


def _publish(connection: sa.Connection, schema: str, name: str, staging: str, replace: Mapping[str, object]) -> int:
    target, source = quoted(schema, name), quoted(schema, staging)
    lock_ddl(connection)
    connection.execute(sa.text(f"CREATE TABLE IF NOT EXISTS {target} (LIKE {source})"))
    # Two runs at once publish one after the other; otherwise the rows of both would stay.
    connection.execute(sa.text(f"LOCK TABLE {target} IN SHARE ROW EXCLUSIVE MODE"))
    # IS NOT DISTINCT FROM is an equality that holds for null, too.
    where = " AND ".join(f"{quoted(column)} IS NOT DISTINCT FROM :v{n}" for n, column in enumerate(replace)) or "TRUE"
    values = {f"v{n}": value for n, value in enumerate(replace.values())}
    outside = connection.execute(sa.text(f"SELECT count(*) FROM {source} WHERE NOT ({where})"), values).scalar_one()
    if outside:
        raise WarehouseError(
            f"{outside} rows of the frame are not among those that {dict(replace)} replaces",
            remedy="Filter the frame, or change `replace`: a second run would write these rows twice.",
        )
    connection.execute(sa.text(f"DELETE FROM {target} WHERE {where}"), values)
    columns = ", ".join(quoted(str(column["name"])) for column in sa.inspect(connection).get_columns(staging, schema))
    return connection.execute(sa.text(f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {source}")).rowcount


def _options(settings: WarehouseSettings) -> dict[str, str]:
    """Options of Spark's JDBC source with those of pgjdbc (jdbc.postgresql.org, "Connection Parameters")."""
    if settings.dialect != "postgresql":
        raise WarehouseError(
            f"Spark reads and writes tables of PostgreSQL, not of {settings.dialect}",
            remedy="Use `workbench.sql`, or a PostgreSQL warehouse.",
        )
    options = {
        "url": f"jdbc:postgresql://{settings.host}:{settings.port}/{settings.database}",
        "user": settings.user,
        "password": settings.password.get_secret_value(),
        "driver": "org.postgresql.Driver",
        "sslmode": settings.effective_sslmode,
        "reWriteBatchedInserts": "true",
        "ApplicationName": "workbench-spark",
    }
    if settings.ca_file:
        options["sslrootcert"] = str(settings.ca_file)
    elif settings.effective_sslmode in {"verify-ca", "verify-full"}:
        options["sslfactory"] = "org.postgresql.ssl.DefaultJavaSSLFactory"
    return options
