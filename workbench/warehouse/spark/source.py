"""The data source `workbench` of Spark: what it asks for, answered by the modules beside this one.

The classes are pickled and travel to the server. What they carry, the password included, is in
the pickle and nowhere else: not in options, plans, `spark.conf` or the UI. Each session of a
notebook registers one: what asks the warehouse is imported on the server, when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.sql.datasource import (
    DataSource,
    DataSourceArrowWriter,
    DataSourceReader,
    DataSourceStreamArrowWriter,
    InputPartition,
    WriterCommitMessage,
)

from workbench.sections import WarehouseSettings

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession
    from pyspark.sql.types import StructType

    from workbench.warehouse.spark.publishing import Write
    from workbench.warehouse.spark.reading import Plan
    from workbench.warehouse.spark.staging import Staged

NAME = "workbench"
QUERY_ID = "sql.streaming.queryId"  # local property of a stream's tasks


def register(spark: SparkSession, settings: WarehouseSettings) -> None:
    """Make *settings* what `format("workbench")` of this session reads and writes."""
    spark.dataSource.register(make_source(settings))


def make_source(settings: WarehouseSettings) -> type[DataSource]:
    """A class that knows the warehouse: pickled by value, since no module has it, and so with its settings."""
    return type("Workbench", (WorkbenchSource,), {"settings": settings, "__module__": __name__})


class WorkbenchSource(DataSource):  # type: ignore[misc]
    """A table or a query of the warehouse."""

    settings: WarehouseSettings

    def __init__(self, options: MutableMapping[str, str]) -> None:
        super().__init__(options)
        self._plan: Plan | None = None

    @classmethod
    def name(cls) -> str:
        """What `format(…)` says."""
        return NAME

    def schema(self) -> str:
        """The columns of what is read, as DDL."""
        from workbench.warehouse.spark.types import read_schema

        plan = self._planned()
        return read_schema(plan.columns, plan.what)

    def reader(self, schema: StructType) -> DataSourceReader:
        """Called when a read is planned."""
        return Reader(self.settings, self._planned(), schema)

    def writer(self, schema: StructType, overwrite: bool) -> DataSourceArrowWriter:
        """Called when a job is planned."""
        return Writer(self.settings, self._write(schema, overwrite=overwrite, is_stream=False))

    def streamWriter(self, schema: StructType, overwrite: bool) -> DataSourceStreamArrowWriter:  # noqa: N802
        """Called when a stream starts, and for each commit."""
        return StreamWriter(self.settings, self._write(schema, overwrite=overwrite, is_stream=True))

    def _planned(self) -> Plan:
        from workbench.warehouse.spark.options import read_options
        from workbench.warehouse.spark.reading import plan_read

        if self._plan is None:
            self._plan = plan_read(self.settings, read_options(self.options))
        return self._plan

    def _write(self, schema: StructType, *, overwrite: bool, is_stream: bool) -> Write:
        from workbench.warehouse.spark.publishing import make_write

        columns = [(field.name, field.dataType.simpleString()) for field in schema.fields]
        return make_write(self.settings, columns, self.options, overwrite=overwrite, is_stream=is_stream)


class Part(InputPartition):  # type: ignore[misc]
    """The number of a statement of the plan."""


class Reader(DataSourceReader):  # type: ignore[misc]
    """Reads; filters are not pushed down.

    Spark 4.2 keeps what a reader planned once for all uses of a relation: a filter that was pushed
    for one use would filter the others too.
    """

    def __init__(self, settings: WarehouseSettings, plan: Plan, schema: StructType) -> None:
        self._settings, self._plan, self._schema = settings, plan, schema

    def partitions(self) -> list[InputPartition]:
        """One for each statement."""
        return [Part(number) for number in range(len(self._plan.statements))]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Called in a task."""
        from pyspark.sql.pandas.types import to_arrow_schema

        from workbench.warehouse.spark.reading import read_batches

        schema = to_arrow_schema(self._schema, timezone="UTC")
        return read_batches(self._settings, self._plan, int(partition.value), schema)


@dataclass
class Told(WriterCommitMessage):  # type: ignore[misc]
    """What a task tells the driver."""

    staged: Staged
    query_id: str = ""


class Writer(DataSourceArrowWriter):  # type: ignore[misc]
    """A batch job: staged by tasks, published by the driver in one transaction."""

    def __init__(self, settings: WarehouseSettings, write: Write) -> None:
        self._settings, self._write = settings, write

    def write(self, iterator: Iterator[pa.RecordBatch]) -> WriterCommitMessage:
        """Called in a task."""
        from workbench.warehouse.spark import staging

        return Told(staging.stage(self._settings, self._write.job, iterator))

    def commit(self, messages: list[Any]) -> None:
        """Called on the driver, once, when all tasks have ended well."""
        from workbench.warehouse.spark import publishing

        publishing.publish(self._settings, self._write, [each.staged for each in messages if each])

    def abort(self, messages: list[Any]) -> None:
        """Called on the driver when the job failed."""
        from workbench.warehouse.spark import publishing

        publishing.discard(self._settings, self._write)


class StreamWriter(DataSourceStreamArrowWriter):  # type: ignore[misc]
    """A stream: each batch is staged by tasks and published by the driver with its number."""

    def __init__(self, settings: WarehouseSettings, write: Write) -> None:
        self._settings, self._write = settings, write

    def write(self, iterator: Iterator[pa.RecordBatch]) -> WriterCommitMessage:
        """Called in a task."""
        from pyspark import TaskContext

        from workbench.warehouse.spark import staging

        query_id = TaskContext.get().getLocalProperty(QUERY_ID) or ""
        return Told(staging.stage(self._settings, self._write.job, iterator), query_id)

    def commit(self, messages: list[Any], batchId: int) -> None:  # noqa: N803
        """Called on the driver for each batch, and again for the last one after a restart."""
        from workbench.warehouse.spark import streams

        told = [each for each in messages if each]
        query_id = next((each.query_id for each in told if each.query_id), "")
        streams.publish_batch(self._settings, self._write, [each.staged for each in told], query_id, batchId)

    def abort(self, messages: list[Any], batchId: int) -> None:  # noqa: N803
        """Called on the driver when a batch failed."""
        from workbench.warehouse.spark import publishing

        publishing.discard(self._settings, self._write)
