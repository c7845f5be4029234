"""Warehouse tables as Spark DataFrames, and back; frames of pandas and Arrow without Spark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.errors import WarehouseError
from workbench.sections import WarehouseSettings
from workbench.warehouse.spark.failures import reported_source

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
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
    """The rows of *table* as a lazy DataFrame; `workbench.load_table` describes the arguments.

    Raises:
        WarehouseError: when there is no such table, or a column has no type in Spark.
    """
    from workbench.warehouse.spark.options import read_options
    from workbench.warehouse.spark.reading import plan_read
    from workbench.warehouse.spark.tasks import make_read

    options = {"table": table, "partitions": str(partitions)}
    if columns:
        options["columns"] = json.dumps(list(columns))
    if where:
        options |= {"where": where, "parameters": json.dumps(parameters or {}, default=str)}
    plan = plan_read(settings, read_options(options))
    read, schema = make_read(settings, plan)
    count = len(plan.statements)
    return spark.range(0, count, 1, count).mapInArrow(read, schema)


def save_table(
    frame: DataFrame | pd.DataFrame | pa.Table,
    settings: WarehouseSettings,
    table: str,
    *,
    replace: Mapping[str, object] | None = None,
) -> int:
    """Write *frame* into *table*; returns its number of rows.

    Rows are copied into staging tables, by tasks when it is a frame of Spark; one transaction then
    removes the old rows and adds the new, so that readers see either all of one or all of the
    other, and a second run gives the same.

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
    if _is_of_spark(frame):
        return write_frame(frame, settings, options, mode="overwrite")
    return write_rows(frame, settings, options)


def write_rows(frame: pd.DataFrame | pa.Table, settings: WarehouseSettings, options: Mapping[str, str]) -> int:
    """Replace rows with those of *frame*, in this process; returns their number.

    Raises:
        WarehouseError: when the frame holds what no column can, or the warehouse refuses; the table is as it was.
    """
    from workbench.warehouse.spark import publishing
    from workbench.warehouse.spark.arrow import arrow_rows, spark_type
    from workbench.warehouse.spark.staging import stage

    rows = arrow_rows(frame)
    columns = [(field.name, spark_type(field.type)) for field in rows.schema]
    write = publishing.make_write(settings, columns, options, overwrite=True)
    try:
        staged = stage(settings, write.job, iter(rows.to_batches()))
        return publishing.publish(settings, write, [staged])
    except BaseException:
        publishing.discard(settings, write)
        raise


def write_frame(frame: DataFrame, settings: WarehouseSettings, options: Mapping[str, str], *, mode: str) -> int:
    """Write *frame* with the options of the data source; returns the number of rows.

    Raises:
        WarehouseError: when the warehouse refuses; the table is as it was.
    """
    from workbench.warehouse.spark import publishing
    from workbench.warehouse.spark.staging import Staged
    from workbench.warehouse.spark.tasks import STAGED_DDL, WorkbenchStage

    columns = [(field.name, field.dataType.simpleString()) for field in frame.schema.fields]
    write = publishing.make_write(settings, columns, options, overwrite=mode == "overwrite")
    try:
        with reported_source():
            staged = frame.mapInArrow(WorkbenchStage(settings=settings, job=write.job), STAGED_DDL).toArrow()
        return publishing.publish(settings, write, [Staged(**each) for each in staged.to_pylist()])
    except BaseException:
        publishing.discard(settings, write)
        raise


def _is_of_spark(frame: object) -> bool:
    """Classic or Connect, without importing either."""
    return any(each.__module__.partition(".")[0] == "pyspark" for each in type(frame).__mro__)
