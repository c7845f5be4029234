"""Types and options of the data source, the errors that come back from Spark, and what is pickled."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from workbench.errors import RowsRefused, WarehouseError, WarehouseUnavailable
from workbench.sections import WarehouseSettings
from workbench.warehouse.merge import upsert_statement
from workbench.warehouse.spark import staging
from workbench.warehouse.spark.failures import find_error
from workbench.warehouse.spark.options import read_options, write_options
from workbench.warehouse.spark.publishing import replaced_condition
from workbench.warehouse.spark.staging import Owner
from workbench.warehouse.spark.types import Column, Field, cast_of, misfit, read_schema, read_type, write_fields


def test_a_read_names_every_column_without_a_type():
    columns = [
        Column(name="a`b", kind="int4"),
        Column(name="amount", kind="numeric"),
        Column(name="long", kind="numeric", precision=50, scale=2),
        Column(name="span", kind="interval", is_array=True),
    ]

    with pytest.raises(
        WarehouseError, match=r"amount is numeric without precision; long is numeric\(50,2\); span is an array"
    ):
        read_schema(columns, "raw.t")
    assert read_schema(columns[:1], "raw.t") == "`a``b` int"


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (Column(name="x", kind="numeric", precision=10, scale=2), "decimal(10,2)"),
        (Column(name="x", kind="numeric", precision=10, scale=2, is_array=True), "array<decimal(10,2)>"),
        (Column(name="x", kind="numeric", precision=2, scale=5), ""),
        (Column(name="x", kind="mood", is_enum=True), "string"),
        (Column(name="x", kind="jsonb"), "string"),
        (Column(name="x", kind="timestamp"), "timestamp_ntz"),
    ],
)
def test_types_are_read_exactly_or_not_at_all(column, kind):
    assert read_type(column) == kind


def test_a_write_names_every_column_without_a_type():
    with pytest.raises(
        WarehouseError, match=r"m is map<string,int>; s is struct<a:int>; g is array<array<int>>; the frame"
    ) as caught:
        write_fields([
            ("m", "map<string,int>"), ("s", "struct<a:int>"), ("g", "array<array<int>>"), ("x", "int"), ("x", "int")
        ])  # fmt: skip
    assert "more than one column x" in str(caught.value)
    assert [field.sql for field in write_fields([("a", "array<timestamp>"), ("b", "varchar(3)"), ("c", "decimal(4,1)")])] == [
        "timestamp with time zone[]", "text", "numeric(4,1)"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spark", "found", "fits"),
    [
        ("int", "bigint", True),
        ("bigint", "integer", False),
        ("int", "double precision", True),
        ("bigint", "double precision", False),
        ("bigint", "numeric", True),
        ("int", "numeric(12,2)", True),
        ("int", "numeric(11,2)", False),
        ("decimal(6,2)", "numeric(8,4)", True),
        ("decimal(6,2)", "numeric(8,1)", False),
        ("string", "character varying(5)", True),
        ("string", "jsonb", True),
        ("string", "integer", False),
        ("timestamp", "timestamp without time zone", False),
        ("float", "double precision", True),
        ("double", "real", False),
        ("array<int>", "bigint[]", False),
        ("boolean", "numeric", False),
    ],
)
def test_values_go_only_where_all_of_them_fit(spark, found, fits):
    (field,) = write_fields([("x", spark)])

    assert (misfit(field, found) == "") is fits


def test_text_is_cast_where_postgresql_would_not_and_never_cut():
    text = Field("x", "string", "text")

    assert cast_of(text, "jsonb") == "jsonb"
    assert cast_of(text, "s.mood", is_enum=True) == "s.mood"
    assert cast_of(text, "character varying(5)") == ""


def test_options_of_a_read_are_refused_all_at_once():
    with pytest.raises(WarehouseError) as caught:
        read_options({"colums": "secret", "partitions": "0", "parameters": "[1]"})

    text = str(caught.value)
    assert "no option colums" in text
    assert "one of `table` and `query`" in text
    assert "`partitions` is '0'" in text
    assert "`parameters` is no JSON object" in text
    assert "secret" not in text
    found = read_options({"TABLE": "raw.t", "columns": '["a,b", "c"]', "partitions": "3"})
    assert (found.table, found.columns, found.partitions) == ("raw.t", ("a,b", "c"), 3)


def test_options_of_a_write_are_refused_when_they_do_not_go_together():
    for options, overwrite, is_stream, told in (
        ({"table": "raw.t", "replace": "{}"}, True, False, "`replace` is empty"),
        ({"table": "raw.t", "replace": '{"a": 1}'}, False, False, "goes with mode"),
        ({"table": "raw.t", "key": "a"}, True, False, "`key` goes with mode"),
        ({"table": "raw.t"}, False, True, "a stream needs the option `stream`"),
        ({"table": "raw.t", "stream": "s"}, False, False, "`stream` is for writeStream"),
        ({"key": "a"}, False, False, "`table` is needed"),
        ({"table": "t"}, False, False, "no table name"),
    ):
        with pytest.raises(WarehouseError, match=told):
            write_options(options, overwrite=overwrite, is_stream=is_stream)


def test_replaced_rows_are_a_condition_with_bound_values():
    where, values = replaced_condition({"a:b": None, "day": {"from": "2026-01-01", "to": "2026-01-02"}})

    assert where == '"a\\:b" IS NOT DISTINCT FROM :v0 AND "day" >= :v1a AND "day" < :v1b'
    assert values == {"v0": None, "v1a": "2026-01-01", "v1b": "2026-01-02"}


def test_an_upsert_of_a_table_that_is_all_key_changes_nothing():
    assert upsert_statement("t", "SELECT 1", ["a"], ["a"]).endswith('ON CONFLICT ("a") DO NOTHING')
    assert upsert_statement("t", "SELECT 1, 2", ["a", "b"], ["a"]).endswith('DO UPDATE SET "b" = excluded."b"')


def test_our_error_is_found_in_the_text_of_a_traceback():
    text = "[X] Failed: Traceback\n  File\nworkbench.errors.WarehouseUnavailable: it is away\n  Remedy: Wait.\n SQLSTATE: 1"

    found = find_error(text)

    assert isinstance(found, WarehouseUnavailable)
    assert (found.message, found.remedy) == ("it is away", "Wait.")
    assert find_error("ZeroDivisionError: division by zero") is None


def test_an_owner_that_has_ended_is_dead_one_elsewhere_unknown():
    alive = staging.make_owner()

    assert alive.is_dead() is False
    assert Owner(machine=alive.machine, pid=alive.pid, started="another").is_dead() is True
    assert Owner(machine=alive.machine, pid=2**22 + 1, started="1.0").is_dead() is True
    assert Owner(machine="another", pid=1, started="1.0").is_dead() is None


@given(st.lists(st.one_of(st.none(), st.text())))
def test_the_character_nul_is_found_in_whatever_text_and_nowhere_else(texts):
    array = pa.array(texts, pa.string())
    has_nul = any("\0" in text for text in texts if text)

    if has_nul:
        with pytest.raises(RowsRefused, match="column c has a text with the character NUL"):
            staging._refuse_nul(array, "c")
    else:
        staging._refuse_nul(array, "c")


def test_the_class_of_a_session_is_pickled_with_its_settings_and_shows_no_password():
    from pyspark import cloudpickle
    from pyspark.sql.datasource import CaseInsensitiveDict

    from workbench.warehouse.spark.source import WorkbenchSource, make_source

    settings = WarehouseSettings.model_validate({"DW_HOST": "db", "DW_USER": "u", "DW_PASSWORD": SecretStr("pa55")})

    source = pickle.loads(cloudpickle.dumps(make_source(settings)))

    assert source is not WorkbenchSource
    assert source.settings.password.get_secret_value() == "pa55"
    assert "pa55" not in repr(vars(source)) + repr(source(CaseInsensitiveDict({"table": "raw.t"})))
