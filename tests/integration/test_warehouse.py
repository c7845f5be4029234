from __future__ import annotations

import gc
from uuid import uuid4

import pyarrow as pa
import pytest
from pydantic import SecretStr

import workbench
from workbench.errors import WarehouseError
from workbench.warehouse.copy import open_bulk, replace_table, reported_bulk
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
