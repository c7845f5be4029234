"""Warehouse tables as Spark DataFrames, and back, through the data source `workbench`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

from workbench.errors import WarehouseError
from workbench.sections import WarehouseSettings
from workbench.warehouse.spark.failures import reported_source
from workbench.warehouse.spark.receipts import count_rows, listening

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def load_table(
    spark: SparkSession,
    settings: WarehouseSettings,
    table: str,
    *,
    columns: Sequence[str] = (),
    where: str = "",
    parameters: Mapping[str, object] | None = None,
    partitions: int = 1,
) -> DataFrame:
    """The rows of *table* as a lazy DataFrame; `workbench.load_table` describes the arguments."""
    from workbench.warehouse.spark.source import NAME, register

    options = {"table": table, "partitions": str(partitions)}
    if columns:
        options["columns"] = json.dumps(list(columns))
    if where:
        options |= {"where": where, "parameters": json.dumps(parameters or {}, default=str)}
    with reported_source():
        register(spark, settings)
        return spark.read.format(NAME).options(**options).load()


def save_table(
    frame: DataFrame, settings: WarehouseSettings, table: str, *, replace: Mapping[str, object] | None = None
) -> int:
    """Write *frame* into *table*; returns its number of rows.

    Tasks write staging tables; one transaction then removes the old rows and adds the new, so
    that readers see either all of one or all of the other, and a second run gives the same.

    Args:
        frame: the rows.
        settings: the warehouse.
        table: `schema.table`, made when it is not there.
        replace: the column values whose rows the frame replaces, such as `{"month": 1}`;
            None replaces all rows.

    Raises:
        WarehouseError: when the warehouse refuses; the table is as it was.
    """
    if replace is not None and not replace:
        raise WarehouseError(
            "replace is empty", remedy="Name the columns and values to replace, or leave it out to replace all rows."
        )
    options = {"table": table}
    if replace:
        options["replace"] = json.dumps(replace, default=str)
    return write_frame(frame, settings, options, mode="overwrite")


def write_frame(frame: DataFrame, settings: WarehouseSettings, options: Mapping[str, str], *, mode: str) -> int:
    """Write *frame* with the options of the data source; returns the number of rows.

    Raises:
        WarehouseError: when the warehouse refuses; the table is as it was.
    """
    from workbench.warehouse.spark.reading import require_postgresql
    from workbench.warehouse.spark.source import NAME, register

    require_postgresql(settings)
    channel = f"workbench_{uuid4().hex}"
    with listening(settings, channel) as receipt, reported_source():
        register(frame.sparkSession, settings)
        frame.write.format(NAME).options(**options, receipt=channel).mode(mode).save()
        rows = receipt()
    return count_rows(settings, options) if rows is None else rows
