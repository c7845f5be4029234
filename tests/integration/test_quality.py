"""One suite of expectations on every engine, rows that are set apart, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
import typer
from typer.testing import CliRunner

import workbench
from tests.services.quality_model import EXPECTATIONS, NOW, ROW, expected, fails, is_missing, many_rows
from workbench.cli import quality
from workbench.errors import ExpectationFailed, SettingsError
from workbench.loading import Target
from workbench.sections import WarehouseSettings
from workbench.transformation.quality.checks import check
from workbench.transformation.quality.expectations import (
    Declaration,
    Expectation,
    ForeignKey,
    Freshness,
    Matches,
    NotNull,
    Range,
    RowCount,
    Severity,
    Unique,
    Values,
)
from workbench.transformation.quality.quarantine import REASONS, quarantine_table, split
from workbench.transformation.quality.result import Result
from workbench.transformation.quality.spark import frame_engine
from workbench.warehouse.dialects import make_warehouse
from workbench.warehouse.quality import table_engine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

COLUMNS = {
    "duckdb": 'id INT, n SMALLINT, x DOUBLE, t TEXT, "at" TIMESTAMPTZ, "on" DATE',
    "postgresql": 'id INT, n SMALLINT, x DOUBLE PRECISION, t TEXT, "at" TIMESTAMPTZ, "on" DATE',
    "spark": "id int, n smallint, x double, t string, at timestamp, on date",
}
KEYS = (0, 1, 32767)
Check = Callable[..., Result]


@contextmanager
def transaction(chosen: WarehouseSettings) -> Iterator[sa.Connection]:
    with make_warehouse(chosen, Target(table="s.t", topic="")) as opened, opened.transaction() as connection:
        yield connection


def write(chosen: WarehouseSettings, rows: list[dict[str, Any]], keys: tuple[int, ...] = KEYS) -> str:
    """A table of rows in a schema of its own, and beside it one of keys."""
    schema = f"s_{uuid4().hex}"
    with transaction(chosen) as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
        connection.execute(sa.text(f"CREATE TABLE {schema}.rows ({COLUMNS[chosen.dialect]})"))
        connection.execute(sa.text(f"INSERT INTO {schema}.rows VALUES (:id, :n, :x, :t, :at, :on)"), rows)
        connection.execute(sa.text(f"CREATE TABLE {schema}.keys (k INT)"))
        connection.execute(sa.text(f"INSERT INTO {schema}.keys VALUES (:k)"), [{"k": key} for key in keys])
    return f"{schema}.rows"


def check_table(chosen: WarehouseSettings, table: str, *expectations: Expectation, **more: Any) -> Result:
    with transaction(chosen) as connection:
        declaration = Declaration(table=table, expectations=expectations, **more)
        return check(table_engine(connection, table), declaration, now=NOW)


@pytest.fixture
def spark(settings) -> Iterator[Any]:
    session = workbench.spark()
    yield session
    session.stop()


def frame_of(spark: Any, rows: list[dict[str, Any]]) -> Any:
    return spark.createDataFrame([tuple(row[name] for name in ROW) for row in rows], COLUMNS["spark"])


@pytest.fixture(params=["duckdb", "postgresql", "spark"])
def on_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Result]:
    """Checks rows on each engine in turn."""
    if request.param == "spark":
        spark = request.getfixturevalue("spark")

        def on_spark(rows: list[dict[str, Any]], *expectations: Expectation, **more: Any) -> Result:
            tables = {"keys": spark.createDataFrame([(key,) for key in KEYS], "k int")}
            declaration = Declaration(table="s.rows", expectations=expectations, **more)
            return check(frame_engine(frame_of(spark, rows), tables), declaration, now=NOW)

        return on_spark
    chosen = (
        request.getfixturevalue("settings").warehouse
        if request.param == "postgresql"
        else WarehouseSettings.model_validate({"WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}).at(tmp_path)
    )

    def on_table(rows: list[dict[str, Any]], *expectations: Expectation, **more: Any) -> Result:
        table = write(chosen, rows)
        beside = tuple(
            ForeignKey(
                columns=each.columns, table=table.replace(".rows", ".keys"), references=("k",), severity=each.severity
            )
            if isinstance(each, ForeignKey)
            else each
            for each in expectations
        )
        return check_table(chosen, table, *beside, **more)

    return on_table


# --- every engine ---


def test_every_engine_gives_the_numbers_of_a_plain_model(on_engine):
    rows = many_rows(400, seed=7)
    asked = (*EXPECTATIONS, ForeignKey(columns=("n",), table="keys", references=("k",)))

    found = on_engine(rows, *asked)

    assert found.rows == len(rows)
    told = {each.name: (each.checked, each.failed, each.observed) for each in found.outcomes}
    assert told == {each.name: expected(each, rows, KEYS) for each in asked}
    # The rows do break what is expected: sameness says something.
    assert sum(each.failed > 0 for each in found.outcomes) > len(asked) // 2


def test_every_engine_shows_keys_of_rows_that_stop_and_no_sensitive_value(on_engine):
    rows = [ROW | {"id": n, "n": 5 if n else 0, "t": "secret"} for n in range(8)]

    found = on_engine(
        rows,
        Range(column="n", max=4, severity=Severity.STOP),
        ForeignKey(columns=("n",), table="keys", references=("k",), severity=Severity.STOP),
        Unique(columns=("n",), severity=Severity.STOP),
        Unique(columns=("t",), severity=Severity.STOP),
        key=("id", "t"),
        sensitive=("t",),
    )

    outside, orphan, twice, hidden = found.outcomes
    for each in (outside, orphan):
        assert each.failed == 7
        assert len(each.examples) == 5
        assert {tuple(example) for example in each.examples} == {("id",)}
        assert {example["id"] for example in each.examples} <= set(range(1, 8))
    assert twice.examples == ({"n": 5},)
    assert hidden.examples == ()
    with pytest.raises(ExpectationFailed) as caught:
        found.raise_for_stop()
    assert "secret" not in str(caught.value)


def test_every_engine_names_columns_that_do_not_fit(on_engine):
    with pytest.raises(SettingsError) as caught:
        on_engine([ROW], NotNull(column="gone"), Range(column="t", min=1), Freshness(column="on", max_age_seconds=1))

    assert len(caught.value.problems) == 3


# --- PostgreSQL ---


def test_types_of_postgresql_that_have_no_like_elsewhere(settings):
    chosen, schema = settings.warehouse, f"s_{uuid4().hex}"
    with transaction(chosen) as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
        connection.execute(sa.text(f"CREATE TYPE {schema}.mood AS ENUM ('good', 'bad')"))
        kinds = f"d NUMERIC, f REAL, bare TIMESTAMP, v VARCHAR(3), m {schema}.mood, j JSONB, u UUID"
        connection.execute(sa.text(f"CREATE TABLE {schema}.rows ({kinds})"))
        rows = "('NaN', 'NaN', 'infinity', 'abc', 'good', '{}', NULL), (1.5, 1, '2026-03-02 11:59:00', 'x', NULL, NULL, NULL)"
        connection.execute(sa.text(f"INSERT INTO {schema}.rows VALUES {rows}"))

    found = check_table(
        chosen,
        f"{schema}.rows",
        *(NotNull(column=name) for name in ("d", "f", "m", "j", "u")),
        Range(column="d", min=1.5, max=2),
        Range(column="f", max=0),
        Range(column="bare", max=NOW),
        Freshness(column="bare", max_age_seconds=59),
        Matches(column="v", pattern="[a-c]{3}"),
        Unique(columns=("m",)),
    )

    assert [each.failed for each in found.outcomes] == [1, 1, 1, 1, 2, 0, 1, 1, 0, 1, 0]
    assert found.outcomes[8].observed == 60.0
    with pytest.raises(SettingsError, match="of a type that cannot be compared"):
        check_table(chosen, f"{schema}.rows", Values(column="m", values=("good",)))


def test_all_questions_of_one_check_see_the_same_rows(settings):
    table = write(settings.warehouse, [ROW, ROW])
    with transaction(settings.warehouse) as connection:
        engine = table_engine(connection, table)
        before = engine.aggregate({}, {})
        with transaction(settings.warehouse) as other:
            other.execute(sa.text(f"INSERT INTO {table} SELECT * FROM {table}"))

        assert engine.aggregate({}, {}) == before
        assert engine.count_surplus(["id"]) == 1


# --- Spark ---


def counted(spark: Any, file: Path, rows: int = 10) -> Any:
    """A frame of one partition that notes each time that it is computed."""

    def note(batches):
        with file.open("a") as notes:
            notes.write("x")
        yield from batches

    return spark.range(0, rows, 1, 1).mapInArrow(note, "id long")


def test_one_pass_is_enough_but_for_unique_and_foreign_key(spark, tmp_path):
    in_one = (
        NotNull(column="id"),
        Range(column="id", min=1, max=5),
        Values(column="id", values=(1, 2)),
        RowCount(min=1),
        Range(column="id", max=3, name="another", severity=Severity.QUARANTINE),
    )
    others = {"keys": spark.range(5)}
    extra = (Unique(columns=("id",)), ForeignKey(columns=("id",), table="keys"))

    def passes(*expectations: Expectation) -> int:
        notes = tmp_path / uuid4().hex
        declaration = Declaration(table="s.rows", expectations=expectations)
        assert check(frame_engine(counted(spark, notes), others), declaration).rows == 10
        return len(notes.read_text())

    assert passes(*in_one) == 1
    assert passes(*in_one, *extra) == 3


QUARANTINED = (
    Matches(column="t", pattern="a.*", severity=Severity.QUARANTINE),
    Range(column="x", max=1, name="x's range", severity=Severity.QUARANTINE),
    NotNull(column="n", severity=Severity.QUARANTINE),
)


def test_rows_that_break_an_expectation_are_set_apart_with_all_reasons(spark):
    rows = many_rows(200, seed=3)
    declaration = Declaration(table="s.rows", expectations=(*QUARANTINED, NotNull(column="at")))

    parts = split(frame_of(spark, rows), declaration)

    def reasons(row: dict[str, Any]) -> list[str]:
        first, second, third = QUARANTINED
        found = [
            each.name
            for each in (first, second)
            if not is_missing(row[each.about[0]]) and fails(each, row[each.about[0]])
        ]
        return found + ([third.name] if row["n"] is None else [])

    good = {row.id for row in parts.good.collect()}
    bad = {row.id: row[REASONS] for row in parts.bad.collect()}
    assert parts.good.columns == list(ROW)
    assert good == {row["id"] for row in rows if not reasons(row)}
    assert bad == {row["id"]: reasons(row) for row in rows if reasons(row)}
    assert good
    assert max(map(len, bad.values())) == 3


def test_without_expectations_of_that_severity_nothing_is_set_apart(spark):
    parts = split(frame_of(spark, [ROW]), Declaration(table="s.rows", expectations=(RowCount(min=1),)))

    assert parts.good.count() == 1
    assert parts.bad.count() == 0
    assert dict(parts.bad.dtypes)[REASONS] == "array<string>"


def test_names_of_columns_may_hold_dots_and_ticks(spark):
    frame = spark.createDataFrame([(None,), (1,), (1,)], "`a.b``c` int")
    name = "a.b`c"
    found = (NotNull(column=name, severity=Severity.QUARANTINE), Unique(columns=(name,)))
    key = ForeignKey(columns=(name,), table="self")
    declaration = Declaration(table="s.rows", expectations=(*found, key))

    result = check(frame_engine(frame, {"self": frame}), declaration)

    assert [each.failed for each in result.outcomes] == [1, 1, 0]
    assert split(frame, declaration).bad.count() == 1


def test_a_foreign_key_without_its_frame_is_told(spark):
    declaration = Declaration(table="s.rows", expectations=(ForeignKey(columns=("id",), table="nobody"),))

    with pytest.raises(SettingsError, match="no frame is given for 'nobody'"):
        check(frame_engine(spark.range(1)), declaration)


def test_the_times_of_a_frame_mean_the_same_in_every_zone(spark):
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    frame = spark.sql("SELECT timestamp'2026-03-02 11:59:00Z' AS at, timestamp_ntz'2026-03-02 11:59:00' AS bare")
    asked = [Freshness(column=name, max_age_seconds=60) for name in ("at", "bare")]
    asked += [Range(column=name, min=NOW) for name in ("at", "bare")]

    found = check(frame_engine(frame), Declaration(table="s.rows", expectations=tuple(asked)), now=NOW)

    assert [each.observed for each in found.outcomes] == [60.0, 60.0, 1.0, 1.0]


def test_a_batch_of_a_stream_is_checked_and_split(spark, tmp_path):
    declaration = Declaration(
        table="s.rows",
        expectations=(
            RowCount(min=1),
            Range(column="id", max=4, severity=Severity.QUARANTINE),
            Unique(columns=("id",)),
        ),
    )
    spark.range(10).coalesce(1).write.parquet(str(tmp_path / "in"))
    file = tmp_path / "found.json"

    def batch(frame, _number):
        parts = split(frame, declaration)
        found = check(frame_engine(frame), declaration)
        told = {
            "failed": [each.failed for each in found.outcomes],
            "good": parts.good.count(),
            "bad": parts.bad.count(),
        }
        file.write_text(json.dumps(told))

    stream = spark.readStream.schema("id long").parquet(str(tmp_path / "in"))
    query = stream.writeStream.foreachBatch(batch).trigger(availableNow=True)
    query.option("checkpointLocation", str(tmp_path / "checkpoint")).start().awaitTermination(120)

    assert json.loads(file.read_text()) == {"failed": [0, 5, 0], "good": 5, "bad": 5}


# --- the command ---


def run(*arguments: str) -> Any:
    application = typer.Typer()
    quality.add_commands(application)
    return CliRunner().invoke(application, ["quality", "check", *arguments])


def declared(folder: Path, table: str, *lines: str) -> str:
    path = folder / "mine.yaml"
    path.write_text("\n".join([f"table: {table}", "key: [id]", "expectations:", *(f"- {line}" for line in lines)]))
    return str(path)


def test_the_command_checks_a_table_and_records_what_it_found(settings, tmp_path):
    table = write(settings.warehouse, [ROW, ROW | {"id": 2, "n": None}])
    file = declared(tmp_path, table, "{kind: row_count, min: 1}", "{kind: not_null, column: n}")

    done = run(table, "--file", file, "--json")

    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["rows"], told["passed"]) == (2, False)
    assert [each["failed"] for each in told["expectations"]] == [0, 1]
    found = workbench.sql(
        'SELECT * FROM workbench.quality_results WHERE "table" = :t ORDER BY expectation', {"t": table}
    )
    assert list(found["expectation"]) == ["not_null n", "row_count"]
    assert list(found["rows_failed"]) == [1, 0]
    assert found["run"].nunique() == 1


def test_the_command_says_what_stops_and_exits_with_one(settings, tmp_path):
    table = write(settings.warehouse, [ROW | {"n": None}])
    stopping = declared(tmp_path, table, "{kind: not_null, column: n, severity: stop}")

    done = run(table, "--file", stopping, "--no-record")

    assert done.exit_code == 1
    assert isinstance(done.exception, ExpectationFailed)
    assert "FAILED" in done.output
    assert "(id=1)" in str(done.exception)
    warned = run(table, "--file", declared(tmp_path, table, "{kind: not_null, column: n}"), "--no-record")
    apart = run(
        table, "--file", declared(tmp_path, table, "{kind: not_null, column: n, severity: quarantine}"), "--no-record"
    )
    assert (warned.exit_code, apart.exit_code) == (0, 1)


def test_todays_rows_are_compared_with_those_of_yesterday(settings, tmp_path):
    table = write(settings.warehouse, [ROW, ROW, ROW, ROW])
    file = declared(tmp_path, table, "{kind: row_count, min_ratio: 0.5, severity: stop}")
    assert run(table, "--file", file).exit_code == 0
    yesterday = (
        f"UPDATE workbench.quality_results SET checked_at = checked_at - interval '1 day' WHERE \"table\" = '{table}'"
    )

    with transaction(settings.warehouse) as connection:
        connection.execute(sa.text(f"DELETE FROM {table}"))
        connection.execute(sa.text(yesterday))
    done = run(table, "--file", file)

    assert "0 rows, fewer than 0.5 of the 4 before" in str(done.exception)


def test_the_quarantine_is_beside_the_table():
    assert quarantine_table("raw.flights") == "raw.flights_quarantine"
