"""The Connect server that `workbench up` starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

import workbench
from tests.services.canaries import files_below, files_with, size_of
from workbench.errors import SparkError, WarehouseError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.topics import Topic, apply_topics
from workbench.sections import SparkSettings
from workbench.transformation.session import connect

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def spark(settings) -> Iterator[Any]:
    session = workbench.spark()
    yield session
    session.stop()


@pytest.fixture
def schema(settings) -> str:
    return f"s_{uuid4().hex}"


def test_the_session_answers(spark):
    assert spark.range(10).count() == 10


def test_functions_and_python_workers_run_in_our_environment(spark):
    from pyspark.sql import functions as F

    @F.udf("string")
    def executable(_):
        import sys

        return sys.executable

    import sys

    assert spark.range(1).select(executable("id")).first()[0] == sys.executable


def test_a_wrong_token_is_refused_and_not_shown(settings):
    wrong = settings.spark.model_copy(update={"token": SecretStr("wrong-token")})

    with pytest.raises(SparkError, match="refused the session") as caught:
        connect(wrong)

    assert "wrong-token" not in str(caught.value)


def test_a_server_that_fails_while_a_session_is_made_ready_is_an_error_of_ours(settings):
    def fail(session):
        session.sql("SELECT raise_error('it has gone')").collect()

    # A flow goes on after an error of Spark; after one of PySpark's own it would end.
    with pytest.raises(SparkError, match=r"has let the session in, and failed then: .*it has gone"):
        connect(settings.spark, new=True, ready=fail)
    assert connect(settings.spark).range(3).count() == 3


def test_without_a_server_the_remedy_is_told():
    with pytest.raises(SparkError, match="no Spark server is running"):
        connect(SparkSettings())


def test_a_table_goes_to_the_warehouse_and_back(spark, schema):
    table = f"{schema}.numbers"

    written = workbench.save_table(spark.range(1000).selectExpr("id", "id % 3 AS month"), table)

    assert written == 1000
    assert workbench.load_table(table).where("month = 1").count() == 333
    assert int(workbench.sql(f"SELECT sum(id) FROM {table}").iloc[0, 0]) == 499_500


def test_replacing_some_rows_leaves_the_others_and_can_be_repeated(spark, schema):
    table = f"{schema}.months"
    workbench.save_table(spark.createDataFrame([(1, "old"), (2, "kept")], "month int, text string"), table)
    new = spark.createDataFrame([(1, "new"), (1, "newer")], "month int, text string")

    for _ in range(2):
        workbench.save_table(new, table, replace={"month": 1})

    rows = workbench.sql(f"SELECT month, text FROM {table} ORDER BY text")
    assert list(rows.itertuples(index=False, name=None)) == [(2, "kept"), (1, "new"), (1, "newer")]


def test_a_refused_write_leaves_the_table_and_no_staging_table(spark, schema):
    table = f"{schema}.kept"
    workbench.save_table(spark.range(3), table)

    with pytest.raises(WarehouseError):
        workbench.save_table(spark.range(5).withColumnRenamed("id", "other"), table)

    assert int(workbench.sql(f"SELECT count(*) FROM {table}").iloc[0, 0]) == 3
    names = workbench.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = :s", {"s": schema})
    assert list(names["table_name"]) == ["kept"]


def test_spark_reads_topics_of_the_same_cluster(spark, settings):
    connection = replace(KafkaConnection.from_settings(settings.kafka), client_id="data-ingestion-service")
    topic = f"t-{uuid4().hex}"
    apply_topics(connection, [Topic(name=topic, partitions=2)])
    workbench.produce(topic, [{"n": n} for n in range(10)])

    frame = (
        spark.read.format("kafka").options(**connection.for_spark(), subscribe=topic, startingOffsets="earliest").load()
    )

    assert frame.count() == 10
    assert {bytes(row.value) for row in frame.select("value").collect()} == {b'{"n":%d}' % n for n in range(10)}


def test_what_is_cached_shuffled_and_spilled_is_nowhere_in_clear(spark, settings):
    from pyspark import StorageLevel
    from pyspark.sql import functions as F

    canary = f"canary-{uuid4().hex}"
    rows = spark.range(0, 20_000, 1, 4).select(F.concat(F.lit(canary), F.rand().cast("string")).alias("text"), "id")
    kept = rows.persist(StorageLevel.DISK_ONLY)
    assert kept.repartition(3, "text").sortWithinPartitions("text").count() == 20_000

    scratch = settings.home / "spark" / "scratch"
    blocks = [each for each in files_below(scratch) if each.parent.parent.name.startswith("blockmgr-")]
    assert sum(map(size_of, blocks)) > 100_000
    assert files_with(scratch, canary) == []
    kept.unpersist()
