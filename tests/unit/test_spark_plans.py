"""Which plans may be run a second time: real plans of PySpark, built without a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql.connect import functions as F
from pyspark.sql.connect import proto
from pyspark.sql.connect.client.core import DefaultChannelBuilder, SparkConnectClient
from pyspark.sql.connect.dataframe import DataFrame
from pyspark.sql.connect.plan import SQL
from pyspark.sql.connect.session import SparkSession
from pyspark.sql.types import IntegerType, LongType, StructType

from workbench.sections import WarehouseSettings
from workbench.transformation.plans import is_read
from workbench.warehouse.spark.reading import Plan
from workbench.warehouse.spark.staging import Job, Owner
from workbench.warehouse.spark.tasks import WorkbenchRead, WorkbenchStage

NOBODY = "sc://localhost:1"
NUMBERS = StructType().add("n", LongType())
READ = WorkbenchRead(
    settings=WarehouseSettings(), plan=Plan(columns=(), statements=(), what=""), schema=pa.schema([("n", pa.int64())])
)
STAGE = WorkbenchStage(
    settings=WarehouseSettings(), job=Job(prefix="", owner=Owner(machine="", pid=1, started="0"), fields=())
)


@pytest.fixture(scope="module")
def spark() -> Any:
    session = SparkSession(DefaultChannelBuilder(NOBODY))
    # Known, so that building a plan asks no server.
    session.client._plan_compression_threshold, session.client._plan_compression_algorithm = -1, "NONE"
    session.client.set_retry_policies([])
    yield session
    session.client.close()


def plan(frame: DataFrame) -> proto.Plan:
    return frame._plan.to_proto(frame._session.client)


def mapped(spark: SparkSession, function: Any) -> DataFrame:
    """What `mapInArrow` gives for a frame whose columns are known without a server."""
    frame = spark.range(2)
    frame._cached_schema = NUMBERS
    return frame.mapInArrow(function, NUMBERS)


def sql(spark: SparkSession, text: str) -> DataFrame:
    """What `spark.sql` gives for a query, which it asks the server about."""
    return DataFrame(SQL(text), spark)


@F.udf(IntegerType())
def twice(n):
    return 2 * n


READS: dict[str, Callable[[Any], DataFrame]] = {
    "range": lambda spark: spark.range(10).groupBy((F.col("id") % 3).alias("k")).agg(F.sum("id")),
    "window": lambda spark: spark.range(9).withColumn("n", F.expr("row_number() OVER (ORDER BY id)")).limit(3),
    "join": lambda spark: spark.range(3).join(spark.range(3), "id").dropDuplicates().orderBy("id"),
    "file": lambda spark: spark.read.parquet("/data/x").filter("a > 1").select("a"),
    "table": lambda spark: spark.table("x").na.fill(0),
    "jdbc table": lambda spark: spark.read.format("jdbc").options(url="u", dbtable="raw.flights").load(),
    "query": lambda spark: sql(spark, "WITH a AS (SELECT 1 AS n) SELECT n FROM a"),
    "table of the warehouse": lambda spark: mapped(spark, READ).filter("n > 1"),
    "lambda": lambda spark: spark.range(2).select(F.transform(F.array("id"), lambda x: x + 1)),
}
MAY_WRITE: dict[str, Callable[[Any], DataFrame]] = {
    "python function": lambda spark: spark.range(3).select(twice("id")),
    "python function below": lambda spark: spark.range(3).select(twice("id").alias("n")).filter("n > 1").limit(1),
    "function over a table of the warehouse": lambda spark: mapped(spark, READ).select(twice("n")),
    "rows that are staged": lambda spark: mapped(spark, STAGE),
    "unknown source": lambda spark: spark.read.format("mine").load(),
    "jdbc query": lambda spark: spark.read.format("jdbc").options(url="u", query="SELECT charge()").load(),
    "jdbc parentheses": lambda spark: spark.read.format("jdbc").options(url="u", dbtable="(SELECT f()) t").load(),
    "sql insert": lambda spark: sql(spark, "INSERT INTO t SELECT 1"),
    "sql after a comment": lambda spark: sql(spark, "/* SELECT */ DELETE FROM t"),
    "java method": lambda spark: spark.range(1).selectExpr("java_method('java.lang.System', 'gc')"),
    "java method as a function": lambda spark: spark.range(1).select(F.call_function("reflect", F.lit("a"))),
}


@pytest.mark.parametrize("build", READS.values(), ids=READS.keys())
def test_a_plan_of_known_parts_is_a_read(spark, build):
    assert is_read(plan(build(spark)))


@pytest.mark.parametrize("build", MAY_WRITE.values(), ids=MAY_WRITE.keys())
def test_what_is_not_known_to_be_harmless_may_write(spark, build):
    assert not is_read(plan(build(spark)))


@pytest.mark.parametrize("kind", ["map_partitions", "group_map", "catalog", "ml_relation", "cached_remote_relation"])
def test_relations_that_run_functions_or_lean_on_the_session_may_write(kind):
    below = proto.Plan()
    getattr(below.root.limit.input, kind).SetInParent()

    assert not is_read(below)


def test_a_command_may_write(spark):
    command = proto.Plan()
    command.command.write_operation.source = "parquet"

    assert not is_read(command)
    assert not is_read(proto.Plan())


def test_the_parts_of_pyspark_that_the_client_replaces_are_there():
    wanted = {
        *("_execute_plan_request_with_metadata", "_execute", "_execute_and_fetch", "_execute_and_fetch_as_iterator"),
        *("_analyze", "config", "add_artifacts", "cache_artifacts", "close", "interrupt_operation"),
        *("_cleanup_ml_cache", "is_closed"),
    }
    client = SparkConnectClient(DefaultChannelBuilder(NOBODY))
    try:
        assert wanted <= set(vars(SparkConnectClient))
        assert {"_session_id", "_server_session_id", "_internal_stub", "_artifact_manager", "_closed"} <= set(
            vars(client)
        )
    finally:
        client.close()
