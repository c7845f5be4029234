"""Expectations: what a file may say, what patterns mean everywhere, and the numbers, against a plain model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.services.quality_model import DATES, DAY, DOUBLES, EXPECTATIONS, INTEGERS, NOW, ROW, TIMES, WORDS, expected
from workbench.errors import ExpectationFailed, SettingsError, WarehouseError, WorkbenchError
from workbench.loading import Target, Warehouse
from workbench.sections import WarehouseSettings
from workbench.transformation.quality.checks import check
from workbench.transformation.quality.declarations import find_declaration, make_declaration, read_declaration
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
from workbench.transformation.quality.patterns import portable
from workbench.transformation.quality.result import Result
from workbench.warehouse.dialects import make_warehouse
from workbench.warehouse.quality import table_engine
from workbench.warehouse.quality_results import read_previous, record_results

ROOT = Path(__file__).parents[2]


class Rows:
    """Tables of a DuckDB file."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.transaction = warehouse.transaction

    def write(self, rows: list[dict[str, Any]], *, also: dict[str, list[int]] | None = None) -> str:
        """A new table of these rows; `also` makes tables with one column, k."""
        schema = f"s_{uuid4().hex}"
        with self.transaction() as connection:
            connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
            columns = 'id INT, n SMALLINT, x DOUBLE, t TEXT, "at" TIMESTAMPTZ, "on" DATE'
            connection.execute(sa.text(f"CREATE TABLE {schema}.rows ({columns})"))
            if rows:
                connection.execute(sa.text(f"INSERT INTO {schema}.rows VALUES (:id, :n, :x, :t, :at, :on)"), rows)
            for name, keys in (also or {}).items():
                connection.execute(sa.text(f"CREATE TABLE {schema}.{name} (k INT)"))
                if keys:
                    connection.execute(
                        sa.text(f"INSERT INTO {schema}.{name} VALUES (:k)"), [{"k": key} for key in keys]
                    )
        return f"{schema}.rows"

    def check(self, table: str, *expectations: Expectation, **more: Any) -> Result:
        asked = {name: more.pop(name) for name in ("key", "sensitive") if name in more}
        with self.transaction() as connection:
            declaration = Declaration(table=table, expectations=expectations, **asked)
            return check(table_engine(connection, table), declaration, now=NOW, **more)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Iterator[Rows]:
    folder = tmp_path_factory.mktemp("quality")
    chosen = WarehouseSettings.model_validate({"WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}).at(folder)
    with make_warehouse(chosen, Target(table="s.t", topic="")) as warehouse:
        yield Rows(warehouse)


def problems(text: str, tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "q.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_declaration(path)
    return tuple(problem.removeprefix(f"{path}: ") for problem in caught.value.problems)


# --- files ---


def test_the_declarations_of_the_project_can_be_read():
    paths = list((ROOT / "pipelines" / "quality").glob("*.yaml"))
    assert paths
    assert all(read_declaration(path).expectations for path in paths)


def test_every_problem_of_a_file_is_told_with_the_path_of_the_field(tmp_path):
    text = """
    table: flights
    keys: [id]
    sensitive: id
    expectations:
      - kind: not_null
        columns: [n]
      - kind: range
        column: n
        min: 3
        max: 2
        severity: fatal
      - kind: nonsense
      - {kind: values, column: t, values: a}
      - {kind: unique, columns: [id], severity: quarantine}
      - {kind: matches, column: t, pattern: '(?=x)'}
      - {kind: freshness, column: at, max_age_seconds: 0, tolerance: 0.5}
      - {kind: range, column: at, min: 2026-01-01T00:00:00}
      - {kind: row_count, min: 1.5}
      - just text
      - {kind: not_null, column: x, tolerance: 2}
      - {kind: row_count, name: }
    """

    found = problems(text, tmp_path)

    for start in (
        "unknown field 'keys'",
        "table is 'flights'; write schema.table",
        "sensitive is 'id'",
        "expectations[0].columns is no field of not_null",
        "expectations[0].column is missing",
        "expectations[1].severity is 'fatal'. Known are warn, quarantine, stop.",
        "expectations[1].max is 2, which is below min.",
        "expectations[2].kind is 'nonsense'",
        "expectations[3].values is 'a', which is no list",
        "expectations[4].severity is quarantine, which unique cannot have",
        "expectations[5].pattern is '(?=x)': ",
        "expectations[6].tolerance is 0.5, which freshness cannot have",
        "expectations[6].max_age_seconds is 0",
        "expectations[7].min is 2026-01-01 00:00:00, which lacks its zone",
        "expectations[8].min is 1.5, which is no whole number",
        "expectations[9] is no mapping",
        "expectations[10].tolerance is 2",
        "expectations[11].name is empty",
    ):
        assert any(each.startswith(start) for each in found), (start, found)
    assert len(found) == 18


@pytest.mark.parametrize(
    "text", ["", "[]", "table: [1", "table: a.b", "table: a.b\nexpectations: {}", "? [a]\n: b", "table: a.b\nkey: 1"]
)
def test_what_is_no_declaration_is_a_problem_and_no_traceback(text, tmp_path):
    assert problems(text, tmp_path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(["column", "columns", "min", "max", "values", "pattern", "severity", "tolerance", "name", "table"]),
    st.sampled_from(["not_null", "unique", "range", "values", "matches", "freshness", "row_count", "foreign_key"]),
)
def test_whatever_a_field_holds_it_is_taken_or_refused_with_its_path(value, field, kind):
    told: tuple[str, ...] = ()
    try:
        make_declaration({"table": "a.b", "expectations": [{"kind": kind, field: value}]}, "q")
    except SettingsError as error:
        told = error.problems

    assert all(each.startswith("q: expectations") for each in told)


def test_a_declaration_is_found_by_its_table_and_by_its_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("table: a.b\nexpectations: [{kind: row_count, min: 1}]")

    assert find_declaration(tmp_path, "a.b") == find_declaration(tmp_path, "mine")
    with pytest.raises(WorkbenchError, match=r"nothing is expected of 'other'.*has mine"):
        find_declaration(tmp_path, "other")


def test_two_expectations_of_one_name_are_refused():
    with pytest.raises(SettingsError, match="'not_null n' is the name of several"):
        Declaration(table="a.b", expectations=(NotNull(column="n"), NotNull(column="n", severity=Severity.STOP)))


# --- patterns ---


@pytest.mark.parametrize(
    ("pattern", "same"),
    [
        (r"\d+", "[0-9]+"),
        (r"[\d-]", "[0-9-]"),
        ("^a$", "a"),
        (r"a\$", r"a\$"),
        (r"a\\$", r"a\\"),
        (r"(?:a|b){2,3}?", "(?:a|b){2,3}?"),
    ],
)
def test_a_portable_pattern(pattern, same):
    assert portable(pattern) == same


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"\bx", r"(a)\1", "(?i)a", "(?=a)", "(?P<n>a)", "a++", "a{256}", "a{,3}", "[[:alpha:]]", "[a&&b]"),
        *("a^b", "a$b", "{", "}", "]", "(", ")", "*", "[", "a\\", r"\pL", r"\x41", r"[\b]", r"\ä"),
    ],
)
def test_what_engines_take_differently_is_refused(pattern):
    with pytest.raises(ValueError):
        portable(pattern)


@given(st.text(alphabet=r"ab1[]()|*+?.^$\{},-dws&" + "\n", max_size=8))
def test_what_is_portable_is_a_pattern(pattern):
    try:
        found = portable(pattern)
    except ValueError:
        return
    re.compile(found)


# --- numbers ---


FRAMES = st.lists(
    st.fixed_dictionaries({
        "id": st.integers(0, 3),
        "n": st.sampled_from(INTEGERS),
        "x": st.sampled_from(DOUBLES),
        "t": st.sampled_from(WORDS),
        "at": st.sampled_from(TIMES),
        "on": st.sampled_from(DATES),
    }),
    max_size=8,
)  # fmt: skip


@settings(max_examples=60)
@given(FRAMES, st.lists(st.integers(0, 2), max_size=3))
def test_the_numbers_are_those_of_a_plain_model(rows, data, keys):
    table = rows.write(data, also={"keys": keys})
    key = ForeignKey(columns=("n",), table=table.replace(".rows", ".keys"), references=("k",))

    found = rows.check(table, *EXPECTATIONS, key)

    assert found.rows == len(data)
    for outcome, expectation in zip(found.outcomes, (*EXPECTATIONS, key), strict=True):
        assert (outcome.checked, outcome.failed, outcome.observed) == expected(expectation, data, keys)


@pytest.mark.parametrize(("tolerance", "passes"), [(0.07, True), (0.069, False), (0.0, False), (1.0, True)])
def test_a_tolerance_is_an_exact_share(rows, tolerance, passes):
    table = rows.write([ROW | {"n": None if n < 7 else n} for n in range(100)])

    assert rows.check(table, NotNull(column="n", tolerance=tolerance)).passed is passes


def test_an_empty_table_meets_what_speaks_of_rows_alone(rows):
    found = rows.check(rows.write([]), *EXPECTATIONS)

    assert {each.name for each in found.broken} == {"freshness at", "row_count"}


@pytest.mark.parametrize(
    ("before", "broken"),
    [({}, False), ({"row_count": 0.0}, False), ({"row_count": 4.0}, False), ({"row_count": 5.0}, True)],
)
def test_a_number_of_rows_is_compared_with_an_earlier_one(rows, before, broken):
    found = rows.check(rows.write([ROW, ROW]), RowCount(min_ratio=0.5), previous=before)

    assert bool(found.broken) is broken


def test_columns_that_do_not_fit_are_all_named(rows):
    with pytest.raises(SettingsError) as caught:
        rows.check(
            rows.write([ROW]),
            NotNull(column="gone"),
            Range(column="t", min=1),
            Matches(column="n", pattern="a"),
            Values(column="n", values=("a",)),
            Freshness(column="t", max_age_seconds=1),
            key=("nokey",),
        )

    assert len(caught.value.problems) == 6


def test_a_missing_table_is_told(rows):
    with pytest.raises(WarehouseError, match=r"there is no table nowhere\.rows"):
        rows.check("nowhere.rows", RowCount(min=1))


# --- results ---


def broken(rows: Rows, **more: Any) -> Result:
    data = [{**ROW, "id": n, "n": None if n < 7 else 1, "t": f"secret{n}"} for n in range(9)]
    return rows.check(rows.write(data), NotNull(column="n", name="<b>n</b> is there", severity=Severity.STOP), **more)


def test_stop_names_the_expectation_the_rows_and_five_keys(rows):
    with pytest.raises(ExpectationFailed) as caught:
        broken(rows, key=("id", "t"), sensitive=("t",)).raise_for_stop()

    message = str(caught.value)
    assert "'<b>n</b> is there': 7 of 9 rows fail" in message
    assert len(re.findall(r"\(id=\d\)", message)) == 5
    assert "secret" not in message
    assert caught.value.remedy
    assert caught.value.exit_code == 1


def test_values_of_sensitive_columns_are_not_shown_even_when_they_are_all_there_is(rows):
    table = rows.write([ROW, ROW])
    unique = Unique(columns=("t",), severity=Severity.STOP)

    shown = rows.check(table, unique, key=("t",))
    hidden = rows.check(table, unique, key=("t",), sensitive=("t",))

    assert shown.outcomes[0].examples == ({"t": "a"},)
    assert hidden.outcomes[0].examples == ()
    assert hidden.outcomes[0].failed == 1


def test_only_stop_ends_the_run(rows):
    found = rows.check(rows.write([ROW | {"n": None}]), NotNull(column="n", severity=Severity.QUARANTINE))

    found.raise_for_stop()

    assert not found.passed
    assert found.counts()["quarantine", "failed"] == 1
    assert sum(found.counts().values()) == 1


def test_a_result_is_shown_escaped_and_as_text(rows):
    found = broken(rows)

    assert "<b>" not in found._repr_html_()
    assert "&lt;b&gt;n&lt;/b&gt; is there" in found._repr_html_()
    assert "FAILED  <b>n</b> is there (stop): 7 of 9 rows fail" in str(found)


def test_what_is_met_is_told_in_its_own_unit(rows):
    old = rows.write([ROW | {"at": NOW - DAY}, ROW | {"n": None}])

    text = str(rows.check(old, RowCount(min=1), Freshness(column="at", max_age_seconds=9), NotNull(column="t")))

    assert text.splitlines()[1:] == [
        "  ok      row_count (warn): 2",
        "  ok      freshness at (warn): 0 s old",
        "  ok      not_null t (warn): 0 of 2 rows fail",
    ]


def test_a_result_has_a_row_for_each_expectation(rows):
    frame = rows.check(rows.write([ROW]), *EXPECTATIONS).to_pandas()

    assert list(frame["name"]) == [each.name for each in EXPECTATIONS]
    assert rows.check(rows.write([ROW]), RowCount(min=1)).to_pandas().loc[0, "observed"] == 1.0


def test_results_are_recorded_and_those_of_an_earlier_day_are_found_again(rows):
    table = rows.write([ROW, ROW])
    found = rows.check(table, RowCount(min=1), Freshness(column="at", max_age_seconds=1))

    with rows.transaction() as connection:
        for at, count in ((NOW - 2 * DAY, 7.0), (NOW - DAY, 5.0), (NOW, 3.0)):
            row = found.records()[0] | {"observed": count}
            record_results(connection, table, at, [row])
        previous = read_previous(connection, table, NOW)
        other = read_previous(connection, "another.table", NOW)

    assert previous == {"row_count": 5.0}
    assert other == {}
