"""Reading and staging as functions of `mapInArrow`: what the data source does, planned by whoever asks for it.

Spark starts two Python processes for each thing that it asks a data source: for its schema, its
plan, its tasks, its commit. A session that loads a table and saves one would wait for ten. Here
the client plans and publishes, and Spark runs the tasks alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from workbench.sections import WarehouseSettings
from workbench.warehouse.spark.reading import Plan, read_batches
from workbench.warehouse.spark.staging import Job, Staged, stage
from workbench.warehouse.spark.types import read_schema

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

STAGED = pa.schema({"table": pa.string(), "rows": pa.int64()})
STAGED_DDL = "table string, rows bigint"


@dataclass(frozen=True, kw_only=True)
class WorkbenchRead:
    """The rows of the statements whose numbers a task is given. Its name says to `transformation.plans` that it reads."""

    settings: WarehouseSettings
    plan: Plan
    schema: pa.Schema  #: that Spark has for the columns

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Of one task."""
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from read_batches(self.settings, self.plan, number, self.schema)


@dataclass(frozen=True, kw_only=True)
class WorkbenchStage:
    """A staging table of the rows of a task, which is told in one row of `STAGED`."""

    settings: WarehouseSettings
    job: Job

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Of one task."""
        yield told(stage(self.settings, self.job, batches))


def make_read(settings: WarehouseSettings, plan: Plan) -> tuple[WorkbenchRead, StructType]:
    """The function that reads *plan*, and the columns that it gives.

    Raises:
        WarehouseError: naming every column that Spark has no type for.
    """
    from pyspark.sql.pandas.types import to_arrow_schema
    from pyspark.sql.types import StructType

    schema = StructType.fromDDL(read_schema(plan.columns, plan.what))
    return WorkbenchRead(settings=settings, plan=plan, schema=to_arrow_schema(schema, timezone="UTC")), schema


def told(staged: Staged) -> pa.RecordBatch:
    """What a task has staged, as its row."""
    return pa.RecordBatch.from_pylist([dict(zip(STAGED.names, astuple(staged), strict=True))], schema=STAGED)
