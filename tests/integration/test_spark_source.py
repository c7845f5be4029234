"""`format("workbench")` on Spark Connect against PostgreSQL: reads, writes, streams; what is refused and what is left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import workbench
from workbench.batch import BatchJob, run
from workbench.errors import WarehouseError
from workbench.settings import Settings
from workbench.warehouse.bookmarks import read_bookmarks
from workbench.warehouse.engine import make_engine
from workbench.warehouse.sink import load_table
from workbench.warehouse.spark import publishing, staging, streams
from workbench.warehouse.spark.options import WriteOptions
from workbench.warehouse.spark.publishing import Write
from workbench.warehouse.spark.staging import Job, Owner
from workbench.warehouse.spark.types import write_fields

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TYPED = (
    "b boolean, i1 tinyint, i2 smallint, i4 int, i8 bigint, f4 float, f8 double, d decimal(38,10), t string, "
    "y binary, day date, at timestamp, local timestamp_ntz, tags array<string>, numbers array<bigint>, sums array<decimal(9,2)>"
)
# ruff: noqa: DTZ001 - Spark's rows have no zone
VALUES = [
    (
        True, 127, 32767, 2**31 - 1, 2**63 - 1, 1.5, float("inf"), Decimal("1234567890123456789012345678.0123456789"),
        "ä\t\\N", b"\x00\xff", date(9999, 12, 31), datetime(2026, 3, 29, 1, 30, 0, 123456), datetime(9999, 12, 31, 23, 59, 59, 999999),
        ["a", None, ""], [1, None, -1], [Decimal("1.25"), None],
    ),
    (
        False, -128, -32768, -(2**31), -(2**63), float("-inf"), float("nan"), Decimal("-0.0000000001"),
        "", b"", date(1, 1, 1), datetime(1970, 1, 1), datetime(1, 1, 1), [], [], [],
    ),
    (None,) * 16,
]  # fmt: skip


@pytest.fixture(scope="module")
def connected(shared_workbench) -> Iterator[Any]:
    """One session for the module: each new one starts Python workers of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(shared_workbench.home))
        session = workbench.spark()
        session.conf.set("spark.sql.session.timeZone", "UTC")
        yield session
        session.stop()


@pytest.fixture
def spark(connected, settings) -> Any:
    return connected


@pytest.fixture
def table(settings) -> str:
    return f"s_{uuid4().hex}.rows"


@pytest.fixture
def execute(settings) -> Iterator[Callable[[str], Any]]:
    engine = make_engine(settings.warehouse)

    def run_statement(statement: str) -> Any:
        with engine.begin() as connection:
            result = connection.exec_driver_sql(statement)
            return result.fetchall() if result.returns_rows else None

    yield run_statement
    engine.dispose()


def write(frame: Any, table: str, mode: str = "append", **options: str) -> None:
    frame.write.format("workbench").mode(mode).options(table=table, **options).save()


def read(spark: Any, **options: object) -> Any:
    return spark.read.format("workbench").options(**{name: str(value) for name, value in options.items()}).load()


def test_every_type_comes_back_as_it_went(spark, table):
    frame = spark.createDataFrame(VALUES, TYPED)

    write(frame, table)
    found = read(spark, table=table)

    assert [kind.replace("smallint", "tinyint", 1) if name == "i1" else kind for name, kind in found.dtypes] == [
        kind for _, kind in frame.dtypes
    ]
    # NaN is equal to nothing, and Spark gives bytearrays or bytes.
    plain = [[repr(bytes(each) if isinstance(each, bytearray) else each) for each in row] for row in found.collect()]
    assert sorted(plain) == sorted([repr(each) for each in row] for row in VALUES)


def test_what_postgresql_has_and_spark_has_not_is_told_with_the_column(spark, table, execute):
    schema = table.partition(".")[0]
    execute(f"CREATE SCHEMA {schema}; CREATE TYPE {schema}.mood AS ENUM ('good', 'bad')")
    execute(
        f"CREATE TABLE {table} (j json, jb jsonb, u uuid, m {schema}.mood, v varchar(9), amount numeric, span interval, "
        "at timestamptz, day date, n numeric(5,2), grid int[])"
    )
    execute(
        f"""INSERT INTO {table} VALUES ('{{"a": 1}}', '{{"b":2}}', '00000000-0000-0000-0000-00000000000a', 'good', 'v',
        1, '1 day', 'infinity', '-infinity', 'NaN', ARRAY[[1,2],[3,4]])"""
    )

    assert read(spark, table=table, columns="j,jb,u,m,v").first() == (
        '{"a": 1}', '{"b": 2}', "00000000-0000-0000-0000-00000000000a", "good", "v"
    )  # fmt: skip
    with pytest.raises(Exception, match="amount is numeric without precision; span is interval"):
        read(spark, table=table).schema  # noqa: B018 - Connect asks for it now
    for column, told in (
        ("at", "column at of .* has infinity"),
        ("day", "column day of .* has infinity"),
        ("n", "column n of .* cannot hold"),
        ("grid", "column grid has arrays of 2 dimensions"),
    ):
        with pytest.raises(Exception, match=told):
            read(spark, table=table, columns=column).collect()


def test_a_filtered_and_an_unfiltered_use_of_one_frame_do_not_disturb_each_other(spark, table):
    write(spark.range(100), table)
    frame = read(spark, table=table)

    assert frame.where("id < 10").union(frame).count() == 110
    assert frame.join(frame.where("id < 10").withColumnRenamed("id", "other"), frame.id == 0).count() == 10


def test_a_table_is_read_in_parts_a_query_with_bound_values_a_view_whole(spark, table, execute):
    write(spark.range(20_000).selectExpr("id", "concat('row ', id) AS \"a:b % c\"".replace('"', "`")), table)
    execute(f"CREATE VIEW {table}_view AS SELECT * FROM {table}")

    parted = read(spark, table=table, partitions=4)
    assert parted.selectExpr("spark_partition_id() AS part").distinct().count() == 4
    assert parted.selectExpr("count(DISTINCT id)", "sum(id)", "count(`a:b % c`)").first() == (
        20_000,
        199_990_000,
        20_000,
    )
    assert (
        read(spark, table=f"{table}_view", partitions=4, columns='["id"]').agg({"id": "sum"}).first()[0] == 199_990_000
    )
    some = read(spark, table=table, partitions=3, where="id BETWEEN :a AND 9 OR id = 7", parameters='{"a": 8}')
    assert sorted(row.id for row in some.collect()) == [7, 8, 9]
    query = f"""SELECT count(*) AS n, CAST(:text AS text) AS text, 100 % 7 AS rest FROM {table} WHERE id < :n;"""
    parameters = json.dumps({"text": "it's; DROP TABLE x --%", "n": 5})
    assert read(spark, query=query, parameters=parameters).first() == (5, "it's; DROP TABLE x --%", 2)


def test_append_overwrite_replace_and_merge(spark, table, execute):
    rows = spark.range(6).selectExpr("id", "CAST(id % 2 AS int) AS month", "'old' AS text")

    write(rows, table, key="id")
    write(rows.selectExpr("id + 3 AS id", "month", "'new' AS text"), table, key="id")
    assert execute(f"SELECT count(*), count(*) FILTER (WHERE text = 'new') FROM {table}") == [(9, 6)]
    write(spark.sql("SELECT 100L AS id, 1 AS month, 'm' AS text"), table, "overwrite", replace='{"month": 1}')
    assert execute(f"SELECT count(*) FROM {table} WHERE month = 1") == [(1,)]
    with pytest.raises(Exception, match="1 rows of the frame are not among those"):
        write(spark.sql("SELECT 101L AS id, 2 AS month, 'm' AS text"), table, "overwrite", replace='{"month": 1}')
    with pytest.raises(Exception, match=r"cannot affect row a second time"):
        write(rows.union(rows), table, key="id")
    write(rows.limit(0), table, "overwrite")
    assert execute(f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_write_that_fails_leaves_the_table_and_no_staging_table(spark, table, execute):
    write(spark.range(3), table)
    before = staging_tables(execute)

    failures = {
        "column other is missing in the table": spark.range(5).withColumnRenamed("id", "other"),
        "column id is bigint, not text": spark.sql("SELECT 'a' AS id"),
        "no exact type for columns of the frame: m is map": spark.sql("SELECT 1L AS id, map(1, 2) AS m"),
        "column id has a text with the character NUL": spark.sql("SELECT concat('a', char(0)) AS id"),
        "division by zero|DIVIDE_BY_ZERO": spark.range(0, 100, 1, 4).selectExpr("100 div (id - 99) AS id"),
    }
    for told, frame in failures.items():
        where = f"{table}_text" if "NUL" in told else table
        with pytest.raises(Exception, match=told):
            write(frame, where, "append")

    assert execute(f"SELECT count(*), sum(id) FROM {table}") == [(3, 3)]
    assert execute(f"SELECT to_regclass('{table}_text')") == [(None,)]
    assert staging_tables(execute) <= before


def test_staging_tables_of_dead_jobs_are_removed_those_of_others_stay(settings, table, execute):
    fields = write_fields([("id", "bigint")])
    alive = staging.make_owner()
    owners = {
        "dead": replace(alive, started="another"),
        "alive": alive,
        "elsewhere": Owner(machine="another", pid=1, started="1.0"),
    }
    writes = {
        name: Write(
            job=Job(prefix=staging.batch_prefix(), owner=owner, fields=fields),
            options=WriteOptions(table=table),
            overwrite=False,
        )
        for name, owner in owners.items()
    }
    publishing.prepare(settings.warehouse, writes["alive"])
    rows = [
        staging.stage(settings.warehouse, writes[name].job, iter([one_row()]))
        for name in ("dead", "alive", "elsewhere")
    ]

    publishing.prepare(settings.warehouse, writes["alive"])

    left = staging_tables(execute)
    assert [each.table in left for each in rows] == [False, True, True]
    # A task that was run twice: only the one that told the driver counts.
    twin = staging.stage(settings.warehouse, writes["alive"].job, iter([one_row()]))
    assert publishing.publish(settings.warehouse, writes["alive"], [rows[1]]) == 1
    assert execute(f"SELECT count(*) FROM {table}") == [(1,)]
    assert twin.table not in staging_tables(execute)
    publishing.discard(settings.warehouse, writes["elsewhere"])
    assert rows[2].table not in staging_tables(execute)


def test_rows_that_a_crash_of_the_database_took_are_missed(settings, table, execute):
    job = Job(prefix=staging.batch_prefix(), owner=staging.make_owner(), fields=write_fields([("id", "bigint")]))
    write_ = Write(job=job, options=WriteOptions(table=table), overwrite=False)
    publishing.prepare(settings.warehouse, write_)
    staged = staging.stage(settings.warehouse, job, iter([one_row()]))
    execute(f"TRUNCATE workbench_staging.{staged.table}")  # what PostgreSQL does to an unlogged table

    with pytest.raises(WarehouseError, match="lost staged rows"):
        publishing.publish(settings.warehouse, write_, [staged])

    assert execute(f"SELECT to_regclass('{table}')") == [(None,)]
    publishing.discard(settings.warehouse, write_)


def test_the_password_is_nowhere_to_be_seen(spark, table, settings, capfd):
    secret = settings.warehouse.password.get_secret_value()
    write(spark.range(3), table)
    frame = read(spark, table=table)

    frame.explain(extended=True)
    with pytest.raises(Exception, match="does not exist") as caught:
        read(spark, table=f"{table}_gone").count()
    shown = capfd.readouterr().out + str(caught.value) + str(spark.conf.getAll)

    assert "BatchScan workbench" in shown
    assert secret not in shown
    log = Path(settings.home) / "logs" / "spark.log"
    assert secret not in log.read_text(errors="replace")


def test_a_stream_is_there_once_whatever_is_repeated(spark, table, execute, tmp_path_factory):
    folder = shared_folder(tmp_path_factory)
    spark.range(0, 1000, 1, 2).write.parquet(f"{folder}/in")
    source = spark.readStream.schema("id long").option("maxFilesPerTrigger", 1).parquet(f"{folder}/in")

    def stream(checkpoint: str, frame: Any = source, mode: str = "append", **options: str) -> None:
        writer = frame.writeStream.format("workbench").outputMode(mode).options(table=table, **options)
        query = writer.option("checkpointLocation", f"{folder}/{checkpoint}").trigger(availableNow=True).start()
        query.awaitTermination(120)

    stream("a", stream="first")
    stream("a", stream="first")
    assert execute(f"SELECT count(*), count(DISTINCT id) FROM {table}") == [(1000, 1000)]
    assert execute(f"SELECT batch_id FROM workbench.streams WHERE target = '{table}'") == [(1,)]
    with pytest.raises(Exception, match="batch 0 of this one may hold rows that are there already"):
        stream("b", stream="first")
    # As after a crash between the commit of the warehouse and that of the checkpoint.
    (Path(folder) / "a" / "commits" / "1").unlink()
    (Path(folder) / "a" / "commits" / ".1.crc").unlink()
    stream("a", stream="first")
    assert execute(f"SELECT count(*), count(DISTINCT id) FROM {table}") == [(1000, 1000)]
    # A warehouse that was restored from a backup of before.
    execute(f"UPDATE workbench.streams SET batch_id = 0 WHERE target = '{table}'")
    spark.range(1000, 1500, 1, 1).write.mode("append").parquet(f"{folder}/in")
    with pytest.raises(Exception, match="up to batch 0, and batch 2 came"):
        stream("a", stream="first")
    counts = source.groupBy((source.id % 2).alias("id")).count().selectExpr("id", "count")
    execute(f"DROP TABLE {table}")
    stream("c", counts, "complete", stream="counts")
    assert execute(f"SELECT * FROM {table} ORDER BY id") == [(0, 750), (1, 750)]


@pytest.mark.parametrize("overwrite", [False, True])
def test_batches_go_on_only_where_the_earlier_ones_are(table, settings, execute, overwrite):
    warehouse, options = settings.warehouse, {"table": table, "stream": "orders"}
    write_ = publishing.make_write(warehouse, [("id", "bigint")], options, overwrite=overwrite, is_stream=True)

    with pytest.raises(WarehouseError, match=r"has no batch of the stream orders .* and batch 3 came"):
        streams.publish_batch(warehouse, write_, [], "query", 3)
    assert execute(f"SELECT to_regclass('{table}')") == [(None,)]
    for batch_id in (0, 1, 1):
        streams.publish_batch(warehouse, write_, [], "query", batch_id)
    execute(f"DROP TABLE {table}")

    if overwrite:  # each batch has all rows
        streams.publish_batch(warehouse, write_, [], "query", 2)
    else:
        with pytest.raises(WarehouseError, match=r"is gone, but workbench\.streams says .* up to batch 1"):
            streams.publish_batch(warehouse, write_, [], "query", 2)
    ledger = execute(f"SELECT batch_id FROM workbench.streams WHERE target = '{table}'")
    assert ledger == [(2 if overwrite else 1,)]


def test_options_that_do_not_go_together_are_refused(spark, table, settings):
    with pytest.raises(Exception, match="there is no option colums; one of `table` and `query` is needed"):
        read(spark, colums="a").count()
    duck = settings.warehouse.model_copy(update={"dialect": "duckdb"})
    with pytest.raises(WarehouseError, match="tables of PostgreSQL, not of duckdb"):
        load_table(spark, duck, table)


def test_a_batch_job_makes_what_is_missing_and_repeats_without_doubling(spark, table, execute):
    counts = {"2026-01-02": 20}

    def make(session: Any, day: Any) -> Any:
        rows = counts.get(str(day), 10)
        if rows < 0:
            return session.range(1).selectExpr("id AS wrong")
        return session.range(rows).selectExpr("id", f"DATE'{day}' AS day")

    job = BatchJob(name=table, into=table, column="day", make=make)

    def states(**given: Any) -> tuple[int, int, int]:
        report = run(job, since="2026-01-01", until="2026-01-03", spark=spark, tell=lambda _: None, **given)
        return len(report.done), len(report.failed), report.rows

    counts["2026-01-03"] = -1
    assert states() == (3, 1, 30)
    counts["2026-01-03"] = 5
    assert states() == (1, 0, 5)
    assert states() == (0, 0, 0)
    assert states(only="all") == (3, 0, 35)
    assert execute(f"SELECT day::text, count(*) FROM {table} GROUP BY 1 ORDER BY 1") == [
        ("2026-01-01", 10), ("2026-01-02", 20), ("2026-01-03", 5)
    ]  # fmt: skip
    found = read_bookmarks(Settings.load().warehouse, table)
    assert [(each.partition, each.state, each.rows) for each in found] == [
        ("2026-01-01", "done", 10), ("2026-01-02", "done", 20), ("2026-01-03", "done", 5)
    ]  # fmt: skip
    assert all(each.application and each.code == job.code for each in found)


def one_row() -> Any:
    import pyarrow as pa

    return pa.RecordBatch.from_pydict({"id": pa.array([1], pa.int64())})


def staging_tables(execute: Callable[[str], Any]) -> set[str]:
    return {name for (name,) in execute("SELECT tablename::text FROM pg_tables WHERE schemaname = 'workbench_staging'")}


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that the Spark server writes, which runs as the same user."""
    return factory.mktemp("stream")
