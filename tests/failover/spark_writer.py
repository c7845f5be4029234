"""A program that writes the warehouse through Spark, to be killed: `python -m tests.failover.spark_writer KIND TABLE FOLDER`."""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame, SparkSession

import workbench
from workbench.batch import BatchJob, Partition, run

ROWS = 30_000
GENERATIONS = 2
FILES = 4
DAYS = ("2026-01-01", "2026-01-04")


def write(spark: SparkSession, table: str, folder: str) -> None:
    """Replace the whole table a few times; each generation has the same number of rows."""
    for generation in range(GENERATIONS):
        frame = spark.range(0, ROWS, 1, 4).selectExpr("id", f"{generation} AS generation")
        frame.write.format("workbench").mode("overwrite").option("table", table).save()


def stream(spark: SparkSession, table: str, folder: str) -> None:
    """Bring the files of the folder into the table, a file a batch."""
    source = spark.readStream.schema("id long").option("maxFilesPerTrigger", 1).parquet(f"{folder}/in")
    writer = source.repartition(3).writeStream.format("workbench").options(table=table, stream="faults")
    query = writer.option("checkpointLocation", f"{folder}/checkpoint").trigger(availableNow=True).start()
    query.awaitTermination()


def make_day(spark: SparkSession, day: Partition) -> DataFrame:
    """The rows of a day; its number says how many."""
    return spark.range(0, rows_of(str(day)), 1, 3).selectExpr("id", f"DATE'{day}' AS day")


def rows_of(day: str) -> int:
    """How many rows a day has."""
    return 1000 * int(day[-2:])


def batch(spark: SparkSession, table: str, folder: str) -> None:
    """Make the days that are missing."""
    job = BatchJob(name=table, into=table, column="day", make=make_day)
    report = run(job, since=DAYS[0], until=DAYS[1], spark=spark, tell=lambda _: None)
    if report.failed:
        sys.exit(str(report.failed))


def main() -> None:
    """Do what the first argument says, and exit with 0 when it was done."""
    kind, table, folder = sys.argv[1:]
    {"write": write, "stream": stream, "batch": batch}[kind](workbench.spark(), table, folder)


if __name__ == "__main__":
    main()
