"""Warehouse tables as Spark DataFrames, and back. Spark's executors speak to the warehouse by JDBC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import uuid4

import sqlalchemy as sa

from workbench.settings import WarehouseSettings
from workbench.warehouse.engine import make_engine, reported
from workbench.warehouse.schema import quoted, split_name

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
    staging = f"staging_{name}_{uuid4().hex[:12]}"
    engine = make_engine(settings)
    try:
        with reported(settings), engine.begin() as connection:
            connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
        frame.write.format("jdbc").options(
            **_options(settings), dbtable=quoted(schema, staging), batchsize=str(FETCH_ROWS)
        ).mode("error").save()
        with reported(settings), engine.begin() as connection:
            return _publish(connection, schema, name, staging, replace or {})
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text(f"DROP TABLE IF EXISTS {quoted(schema, staging)}"))
        engine.dispose()


def _publish(connection: sa.Connection, schema: str, name: str, staging: str, replace: Mapping[str, object]) -> int:
    target, source = quoted(schema, name), quoted(schema, staging)
    connection.execute(sa.text(f"CREATE TABLE IF NOT EXISTS {target} (LIKE {source})"))
    where = " AND ".join(f"{quoted(column)} = :v{number}" for number, column in enumerate(replace)) or "TRUE"
    values = {f"v{number}": value for number, value in enumerate(replace.values())}
    connection.execute(sa.text(f"DELETE FROM {target} WHERE {where}"), values)
    columns = ", ".join(quoted(str(column["name"])) for column in sa.inspect(connection).get_columns(staging, schema))
    return connection.execute(sa.text(f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {source}")).rowcount


def _options(settings: WarehouseSettings) -> dict[str, str]:
    return {
        "url": f"jdbc:postgresql://{settings.host}:{settings.port}/{settings.database}?sslmode={settings.effective_sslmode}&reWriteBatchedInserts=true&ApplicationName=workbench-spark",
        "user": settings.user,
        "password": settings.password.get_secret_value(),
        "driver": "org.postgresql.Driver",
    }
