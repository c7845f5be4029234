"""The warehouse in Spark: reads, writes and streams of ours beside Spark's JDBC source in the same run, and toPandas.

`python -m benchmarks.spark_warehouse [--rows N] [--rounds N] [read|pandas|write|stream …]`, with a workbench that runs.
Each lane is checked: rows and sums have to be right, or there is no figure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import sqlalchemy as sa

from workbench.settings import Settings
from workbench.warehouse.engine import make_engine

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SCHEMA = "bench_spark"
READ_ROWS, WRITE_ROWS, PANDAS_ROWS = 5_000_000, 2_000_000, 2_000_000
JDBC_BATCH_ROWS = 10_000
PARTS = 4
FILES = 8  # of a stream; two a batch
COLUMNS = (
    "id",
    "CAST(id % 1000 AS int) AS account",
    "concat('kind-', id % 7) AS kind",
    "CAST(id % 10007 AS double) / 4 AS amount",
    "timestamp_micros(1700000000000000 + id * 1000) AS at",
    "concat('note number ', id) AS note",
)
SUMS = "count(*), sum(id), sum(account), sum(amount), sum(length(kind)), sum(length(note)), count(at)"


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One way to do the same."""

    name: str
    run: Callable[[], tuple[float, ...]]  #: returns the sums, which have to be those of all lanes


def compare(lanes: list[Lane], rows: int, rounds: int, expected: tuple[float, ...]) -> dict[str, Any]:
    """Run the lanes in turn, a few rounds; seconds of each, the first round being warm-up.

    Raises:
        AssertionError: when a lane has other rows or sums.
    """
    seconds: dict[str, list[float]] = {lane.name: [] for lane in lanes}
    for number in range(rounds + 1):
        for lane in lanes:
            started = time.monotonic()
            found = lane.run()
            taken = time.monotonic() - started
            assert found == expected, (lane.name, found, expected)
            if number:
                seconds[lane.name].append(taken)
            print(f"{lane.name:>24} {number or 'warm-up':>8} {taken:7.2f} s {rows / taken:12,.0f} rows/s")
    return {
        name: {"seconds": [round(each, 3) for each in taken], "rows_per_second": round(rows / statistics.median(taken))}
        for name, taken in seconds.items()
    }


def bench_read(spark: SparkSession, settings: Settings, *, rows: int = READ_ROWS, rounds: int = 3) -> dict[str, Any]:
    """A table of the warehouse to sums of all its columns: ours and `spark.read.jdbc`, whole and in four parts."""
    table = f"{SCHEMA}.read_{rows}"
    make_rows(spark, rows).write.format("workbench").mode("overwrite").option("table", table).save()
    execute(settings, f"VACUUM ANALYZE {table}")
    bounds = {"partitionColumn": "id", "lowerBound": "0", "upperBound": str(rows), "numPartitions": str(PARTS)}
    ours = spark.read.format("workbench").option("table", table)
    theirs = spark.read.format("jdbc").options(**jdbc(settings), dbtable=table, fetchsize=str(JDBC_BATCH_ROWS))
    lanes = [
        Lane(name="workbench", run=lambda: sums(ours.option("partitions", "1").load())),
        Lane(name="jdbc", run=lambda: sums(theirs.load())),
        Lane(name=f"workbench-{PARTS}", run=lambda: sums(ours.option("partitions", str(PARTS)).load())),
    ]
    parted = spark.read.format("jdbc").options(
        **jdbc(settings), dbtable=table, fetchsize=str(JDBC_BATCH_ROWS), **bounds
    )
    lanes.append(Lane(name=f"jdbc-{PARTS}", run=lambda: sums(parted.load())))
    return compare(lanes, rows, rounds, sums(make_rows(spark, rows)))


def bench_pandas(
    spark: SparkSession, settings: Settings, *, rows: int = PANDAS_ROWS, rounds: int = 3
) -> dict[str, Any]:
    """`toPandas` of a frame beside Arrow alone (`toArrow`), and beside the same Arrow made pandas by hand."""
    frame = make_rows(spark, rows)

    def in_pandas(found: Any) -> tuple[float, ...]:
        return (len(found), int(found["id"].sum()))

    lanes = [
        Lane(name="toArrow", run=lambda: ((found := frame.toArrow()).num_rows, int(sum_of(found["id"])))),
        Lane(name="toPandas", run=lambda: in_pandas(frame.toPandas())),
        Lane(name="toArrow().to_pandas()", run=lambda: in_pandas(frame.toArrow().to_pandas())),
    ]
    return compare(lanes, rows, rounds, (rows, rows * (rows - 1) // 2))


def bench_write(spark: SparkSession, settings: Settings, *, rows: int = WRITE_ROWS, rounds: int = 3) -> dict[str, Any]:
    """A batch of rows into a new table: ours, all or nothing, and Spark's JDBC sink, which is neither."""
    frame = make_rows(spark, rows)

    def ours(table: str) -> None:
        frame.write.format("workbench").mode("append").option("table", table).save()

    def theirs(table: str) -> None:
        frame.write.format("jdbc").options(**jdbc(settings), dbtable=table, batchsize=str(JDBC_BATCH_ROWS)).mode(
            "append"
        ).save()

    lanes = [
        Lane(name="workbench", run=into_new_table(settings, ours)),
        Lane(name="jdbc", run=into_new_table(settings, theirs)),
    ]
    return compare(lanes, rows, rounds, sums(frame))


def bench_stream(
    spark: SparkSession, settings: Settings, *, rows: int = WRITE_ROWS, rounds: int = 3, only: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A stream of files in four batches: ours, a transaction for each task with a ledger row, and JDBC at least once."""
    with tempfile.TemporaryDirectory() as folder:
        make_rows(spark, rows).repartition(FILES).write.parquet(f"{folder}/in")
        source = (
            spark.readStream.schema(make_rows(spark, 1).schema)
            .option("maxFilesPerTrigger", FILES // 4)
            .parquet(f"{folder}/in")
        )
        spark.dataSource.register(make_direct(settings))

        @contextmanager
        def checkpoint() -> Iterator[str]:
            path = Path(folder) / uuid4().hex
            yield str(path)
            shutil.rmtree(path, ignore_errors=True)

        def run_with(writer: Any) -> None:
            with checkpoint() as path:
                query = writer.option("checkpointLocation", path).trigger(availableNow=True).start()
                query.awaitTermination()

        options = {**jdbc(settings), "batchsize": str(JDBC_BATCH_ROWS)}

        def by_jdbc(table: str) -> None:
            def write(batch: DataFrame, number: int) -> None:
                batch.write.format("jdbc").options(**options, dbtable=table).mode("append").save()

            run_with(source.writeStream.foreachBatch(write))

        lanes = [
            Lane(
                name="workbench",
                run=into_new_table(
                    settings,
                    lambda table: run_with(source.writeStream.format("workbench").options(table=table, stream=table)),
                ),
            ),
            Lane(
                name="transaction-per-task",
                run=into_new_table(
                    settings, lambda table: run_with(source.writeStream.format("bench_direct").option("table", table))
                ),
            ),
            Lane(name="jdbc", run=into_new_table(settings, by_jdbc)),
        ]
        chosen = [lane for lane in lanes if not only or lane.name in only]
        return compare(chosen, rows, rounds, sums(make_rows(spark, rows)))


def make_direct(settings: Settings) -> Any:
    """The other design for streams: each task writes the table in one transaction with its row of a ledger.

    The primary key of the ledger turns a second commit of the same part into a rollback.
    """
    from pyspark.sql.datasource import DataSource, DataSourceStreamArrowWriter, WriterCommitMessage

    warehouse = settings.warehouse

    class Writer(DataSourceStreamArrowWriter):  # type: ignore[misc]
        def __init__(self, table: str) -> None:
            self.table = table

        def write(self, iterator: Iterator[Any]) -> Any:
            from contextlib import closing

            import pyarrow as pa
            from pyspark import TaskContext

            from workbench.warehouse.copy import open_bulk

            context = TaskContext.get()
            query = context.getLocalProperty("sql.streaming.queryId")
            batch = context.getLocalProperty("streaming.sql.batchId")
            first = next(iterator, None)
            if first is not None:
                schema, _, name = self.table.partition(".")
                fields = [
                    field.with_type(pa.timestamp("us", tz="UTC")) if pa.types.is_timestamp(field.type) else field
                    for field in first.schema
                ]
                kind = pa.schema(fields)

                def batches() -> Iterator[pa.RecordBatch]:
                    yield first.cast(kind)
                    for each in iterator:
                        yield each.cast(kind)

                with closing(open_bulk(warehouse)) as bulk:
                    with bulk.cursor() as cursor:
                        cursor.execute(
                            "INSERT INTO bench_spark.ledger VALUES ($1, $2, $3)",
                            (query, int(batch), context.partitionId()),
                        )
                        reader = pa.RecordBatchReader.from_batches(kind, batches())
                        cursor.adbc_ingest(name, reader, mode="append", db_schema_name=schema)
                    bulk.commit()
            return WriterCommitMessage()

        def commit(self, messages: list[Any], batchId: int) -> None:  # noqa: N803
            """Nothing is left to do: each task has committed."""

        def abort(self, messages: list[Any], batchId: int) -> None:  # noqa: N803
            """What was committed stays; the batch comes again."""

    class Direct(DataSource):  # type: ignore[misc]
        @classmethod
        def name(cls) -> str:
            return "bench_direct"

        def streamWriter(self, schema: Any, overwrite: bool) -> Any:  # noqa: N802
            return Writer(self.options["table"])

    return Direct


def into_new_table(settings: Settings, write: Callable[[str], None]) -> Callable[[], tuple[float, ...]]:
    """Make a table, have it written, and return its sums; the sums cost every lane the same."""

    def run() -> tuple[float, ...]:
        table = f"{SCHEMA}.t_{uuid4().hex}"
        execute(
            settings,
            f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
            f"CREATE TABLE IF NOT EXISTS {SCHEMA}.ledger (query text, batch bigint, part int, PRIMARY KEY (query, batch, part))",
            f"CREATE TABLE {table} (id bigint, account int, kind text, amount double precision, at timestamptz, note text)",
        )
        write(table)
        engine = make_engine(settings.warehouse)
        try:
            with engine.connect() as connection:
                found = tuple(connection.execute(sa.text(f"SELECT {SUMS} FROM {table}")).one())
        finally:
            engine.dispose()
        execute(settings, f"DROP TABLE {table}")
        return tuple(float(each) for each in found)

    return run


def make_rows(spark: SparkSession, rows: int) -> DataFrame:
    """Rows that every lane gets: numbers, texts, a time."""
    return spark.range(0, rows, 1, PARTS).selectExpr(*COLUMNS)


def sums(frame: DataFrame) -> tuple[float, ...]:
    """Sums of all columns, so that none can be left out."""
    return tuple(float(each) for each in frame.selectExpr(*SUMS.split(", ")).first() or ())


def sum_of(column: Any) -> int:
    """The sum of an Arrow column."""
    import pyarrow.compute as pc

    return int(pc.sum(column).as_py())


def jdbc(settings: Settings) -> Mapping[str, str]:
    """Options of Spark's JDBC source, with what makes its inserts quick."""
    warehouse = settings.warehouse
    return {
        "url": f"jdbc:postgresql://{warehouse.host}:{warehouse.port}/{warehouse.database}?reWriteBatchedInserts=true",
        "user": warehouse.user,
        "password": warehouse.password.get_secret_value(),
        "driver": "org.postgresql.Driver",
    }


def execute(settings: Settings, *statements: str) -> None:
    """Run statements, each by itself."""
    engine = make_engine(settings.warehouse)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.execute(sa.text(statement))
    finally:
        engine.dispose()


BENCHES = {"read": bench_read, "pandas": bench_pandas, "write": bench_write, "stream": bench_stream}


def main() -> None:
    """Run what was asked for; the last line is JSON."""
    import workbench

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*BENCHES, []], default=list(BENCHES))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    settings, spark = Settings.load(), workbench.spark()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    given = {"rows": arguments.rows} if arguments.rows else {}
    found = {name: BENCHES[name](spark, settings, rounds=arguments.rounds, **given) for name in arguments.what}
    execute(settings, f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
