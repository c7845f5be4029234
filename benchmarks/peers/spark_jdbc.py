"""Spark's JDBC sink: the topic read in one batch, parsed by from_json, written by `write.jdbc`.

Runs as a process of its own too: `python -m benchmarks.peers.spark_jdbc LOAD_FILE`.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.lane import ENDED, Command, Lane
from benchmarks.peers.records import Load, make_table
from workbench.embedded.jars import ensure_jars, read_lock
from workbench.embedded.java import find_java
from workbench.resources import resource

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIELDS = "id BIGINT, account INT, kind STRING, amount DOUBLE, at TIMESTAMP, note STRING"
DRIVER_MEMORY = "2g"
BATCH_ROWS = 10_000


def spark_lane() -> Lane:
    """A classic session of two cores; the sink can only append."""

    def prepare(load: Load, folder: Path) -> Command:
        make_table(load, primary_key=False)
        jars()
        load.write(folder / "load.json")
        return Command(
            argv=(sys.executable, "-m", "benchmarks.peers.spark_jdbc", str(folder / "load.json")),
            environment={"JAVA_HOME": str(find_java().home), "PYTHONPATH": str(resource("pyproject.toml").parent)},
        )

    return Lane(name="spark-jdbc-append", mode="append", prepare=prepare, version=f"Spark {version('pyspark')}")


def jars() -> list[Path]:
    """Spark's Kafka source and the driver of PostgreSQL, those of the checkout."""
    folder = resource("pyproject.toml").parent / ".workbench" / "jars"
    wanted = [jar for jar in read_lock() if jar.server == "spark"]
    return ensure_jars(folder, wanted, repository=os.environ.get("WORKBENCH_EMBEDDED_JARS_REPOSITORY", ""))["spark"]


def make_session() -> SparkSession:
    """A classic session on two cores."""
    from pyspark.sql import SparkSession

    return (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", DRIVER_MEMORY)
        .config("spark.driver.extraClassPath", ":".join(map(str, jars())))
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )


def copy(spark: SparkSession, load: Load) -> None:
    """All records that the topic holds now into the table."""
    from pyspark.sql import functions as f

    records = (
        spark.read.format("kafka")
        .options(**load.connection.for_spark())
        .option("subscribe", load.topic)
        .option("startingOffsets", "earliest")
        .load()
    )
    rows = records.select(f.from_json(f.col("value").cast("string"), FIELDS).alias("row")).select("row.*")
    warehouse = load.warehouse
    rows.write.jdbc(
        f"jdbc:postgresql://{warehouse.host}:{warehouse.port}/{warehouse.database}?reWriteBatchedInserts=true",
        f'"{load.schema}"."{load.table}"',
        mode="append",
        properties={
            "user": warehouse.user,
            "password": warehouse.password.get_secret_value(),
            "driver": "org.postgresql.Driver",
            "batchsize": str(BATCH_ROWS),
        },
    )


def main() -> None:
    """Copy, and tell when it was done."""
    load = Load.read(Path(sys.argv[1]))
    spark = make_session()
    copy(spark, load)
    Path(os.environ[ENDED]).write_text(str(time.monotonic()), encoding="utf-8")
    spark.stop()


if __name__ == "__main__":
    main()
