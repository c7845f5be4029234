from __future__ import annotations

import gc
from contextlib import closing
from datetime import date
from decimal import Decimal
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pytest
from pydantic import SecretStr

import workbench
from workbench.errors import WarehouseError, WarehouseUnavailable
from workbench.warehouse.copy import LIMITS, all_the_time, open_bulk, replace_table, reported_bulk
from workbench.warehouse.engine import read_frame


@pytest.fixture
def schema(settings) -> str:
    return f"s_{uuid4().hex}"


def test_parameters_are_bound_not_pasted(settings):
    answer = workbench.sql("SELECT :text AS text", {"text": "'; DROP TABLE x; --"})

    assert answer.iloc[0, 0] == "'; DROP TABLE x; --"


def test_a_statement_without_rows_tells_how_many_it_changed(schema):
    workbench.sql(f"CREATE SCHEMA {schema}")
    workbench.sql(f"CREATE TABLE {schema}.t AS SELECT generate_series(1, 5) AS n")

    assert workbench.sql(f"DELETE FROM {schema}.t WHERE n > 2").iloc[0, 0] == 3


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("SELECT * FROM nowhere.nothing", 'relation "nowhere.nothing" does not exist'),
        ("SELEC 1", "syntax error"),
        ("SELECT :absent", "syntax error"),
    ],
)
def test_a_refused_query_says_why_and_shows_no_secret(settings, query, part):
    with pytest.raises(WarehouseError) as caught:
        workbench.sql(query)

    assert part in str(caught.value)
    assert settings.warehouse.password.get_secret_value() not in str(caught.value)


def test_a_wrong_password_is_refused_and_called_one(settings):
    wrong = settings.warehouse.model_copy(update={"password": SecretStr("not-the-password")})

    with pytest.raises(WarehouseError) as caught:
        read_frame(wrong, "SELECT 1", {})

    assert "password authentication failed" in str(caught.value)
    assert "not-the-password" not in str(caught.value)


def test_the_server_listens_on_loopback_asks_for_scram_and_checks_its_pages(settings):
    shown = {
        name: workbench.sql(f"SHOW {name}").iloc[0, 0]
        for name in ("listen_addresses", "password_encryption", "data_checksums")
    }

    assert shown == {"listen_addresses": "127.0.0.1", "password_encryption": "scram-sha-256", "data_checksums": "on"}
    assert not workbench.sql("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").iloc[0, 0]


def test_replacing_a_table_twice_gives_the_second_rows(settings, schema):
    table = f"{schema}.small"

    replace_table(settings.warehouse, table, pa.table({"name": ["a", "b"]}))
    replace_table(settings.warehouse, table, pa.table({"name": ["c"]}))

    assert list(workbench.sql(f"SELECT name FROM {table}")["name"]) == ["c"]


@pytest.mark.parametrize("name", ["flights", "a.b.c", ".x", "x."])
def test_a_table_name_has_a_schema(settings, name):
    with pytest.raises(WarehouseError, match=r"Write schema\.table"):
        replace_table(settings.warehouse, name, pa.table({"n": [1]}))


def test_a_bulk_connection_that_fails_after_it_was_opened_is_closed(settings):
    with pytest.raises(WarehouseError), reported_bulk(settings.warehouse):
        open_bulk(settings.warehouse, limits={"transaction_timeout": "'"})

    gc.collect()  # an open connection would warn here, and warnings are errors


def test_after_all_the_time_the_limit_of_a_transaction_counts_anew(settings, monkeypatch):
    monkeypatch.setitem(LIMITS, "transaction_timeout", "200ms")
    with (
        pytest.raises(WarehouseUnavailable, match="transaction timeout"),
        reported_bulk(settings.warehouse),
        closing(open_bulk(settings.warehouse)) as bulk,
        bulk.cursor() as cursor,
    ):
        with all_the_time(cursor):
            cursor.execute("SELECT pg_sleep(0.3)")
            cursor.fetchall()
        cursor.execute("SELECT pg_sleep(60)")
        cursor.fetchall()


def test_a_pandas_frame_replaces_rows_without_spark(schema):
    table = f"{schema}.days"
    first = pd.DataFrame({"day": [date(2013, 1, 1)] * 2, "n": [1, 2], "mean": [1.5, float("nan")]}, index=[7, 8])
    first["carrier"] = pd.Categorical(["AA", None])
    first["at"] = pd.to_datetime(["2013-01-01 05:00", "2013-01-02 06:00"]).tz_localize("America/New_York")

    assert workbench.save_table(first, table) == 2
    second = first.assign(day=date(2013, 1, 2))
    for _ in range(2):
        assert workbench.save_table(second, table, replace={"day": date(2013, 1, 2)}) == 2

    rows = workbench.sql(f"SELECT day, n, mean, carrier, at AT TIME ZONE 'UTC' AS at FROM {table} ORDER BY 1, 2")
    assert list(rows["day"]) == [date(2013, 1, 1)] * 2 + [date(2013, 1, 2)] * 2
    assert list(rows["n"]) == [1, 2, 1, 2]
    assert list(rows["carrier"]) == ["AA", None, "AA", None]
    assert rows["mean"].isna().tolist() == [False, True, False, True]
    assert str(rows["at"][0]) == "2013-01-01 10:00:00"


def test_an_arrow_table_keeps_its_types(schema):
    table = f"{schema}.types"
    rows = pa.table(
        {
            "small": pa.array([1, None], pa.uint16()),
            "price": pa.array([Decimal("1.25"), None], pa.decimal128(10, 2)),
            "tags": pa.array([["a", "b"], []], pa.large_list(pa.large_string())),
            "at": pa.array([1_000_000_000, None], pa.timestamp("ns")),
        }
    )

    assert workbench.save_table(rows, table) == 2
    assert workbench.save_table(rows.slice(0, 0), table) == 0

    kinds = workbench.sql(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = :s", {"s": schema}
    )
    assert dict(kinds.itertuples(index=False, name=None)) == {
        "small": "integer",
        "price": "numeric",
        "tags": "ARRAY",
        "at": "timestamp without time zone",
    }
    assert workbench.sql(f"SELECT count(*) FROM {table}").iloc[0, 0] == 0


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        (pd.DataFrame({"n": [1, "a"]}), "Conversion failed for column n"),
        (pa.table({"at": pa.array([1], pa.timestamp("ns"))}), "would lose data"),
        (pd.DataFrame({"n": [None]}), "n is null"),
        (pd.DataFrame(), "the frame has no columns"),
        ([1, 2], "list is no frame that can be written"),
    ],
)
def test_a_frame_that_no_table_can_hold_is_refused_before_it_is_written(schema, frame, part):
    with pytest.raises(WarehouseError) as caught:
        workbench.save_table(frame, f"{schema}.refused")

    assert part in str(caught.value)
    assert workbench.sql("SELECT to_regclass(:t) IS NULL", {"t": f"{schema}.refused"}).iloc[0, 0]
