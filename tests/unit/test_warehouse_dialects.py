"""Which warehouse the settings choose, and that the documentation says what each can do."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
import sqlalchemy as sa

from pipelines.store.database import _as_store_error
from workbench.errors import SettingsError, StoreUnavailable, WarehouseError, WarehouseUnavailable
from workbench.loading import Target
from workbench.resources import resource
from workbench.settings import Settings
from workbench.warehouse.dialects import CAPABILITIES, Capabilities, make_warehouse
from workbench.warehouse.dialects.duckdb_sql import merge_statements
from workbench.warehouse.dialects.evolution import fitted
from workbench.warehouse.engine import reported

ROLE = "arn:aws:iam::123456789012:role/reader"
REDSHIFT = {
    "WORKBENCH_WAREHOUSE_DIALECT": "redshift",
    "DW_HOST": "cluster.example.com",
    "DW_USER": "u",
    "DW_PASSWORD": "p",
    "WORKBENCH_WAREHOUSE_STAGING_URL": "s3://bucket/prefix",
    "WORKBENCH_WAREHOUSE_IAM_ROLE": ROLE,
}


def load(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "PostgresqlWarehouse"),
        ({"WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}, "DuckdbWarehouse"),
        (REDSHIFT, "RedshiftWarehouse"),
        (REDSHIFT | {"WORKBENCH_WAREHOUSE_IAM_ROLE": "default"}, "RedshiftWarehouse"),
    ],
)
def test_the_settings_choose_the_warehouse(monkeypatch, values, name):
    settings = load(monkeypatch, values).warehouse

    assert type(make_warehouse(settings, Target(table="raw.rows", topic="t"))).__name__ == name


def test_only_duckdb_has_files_and_they_are_under_home_unless_named(monkeypatch, tmp_path: Path):
    assert load(monkeypatch, {}).warehouse.file is None
    chosen = load(monkeypatch, {"WORKBENCH_WAREHOUSE_DIALECT": "duckdb", "WORKBENCH_WAREHOUSE_FILE": "mine.duckdb"})

    assert chosen.warehouse.file == tmp_path / "mine.duckdb"
    assert chosen.warehouse.key_file == tmp_path / ".workbench" / "keys" / "duckdb-key"


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"WORKBENCH_WAREHOUSE_DIALECT": "oracle"}, "WORKBENCH_WAREHOUSE_DIALECT is 'oracle'"),
        ({"WORKBENCH_WAREHOUSE_FILE": "x"}, "WORKBENCH_WAREHOUSE_FILE is for duckdb"),
        ({"WORKBENCH_WAREHOUSE_KEY_FILE": "x"}, "WORKBENCH_WAREHOUSE_KEY_FILE is for duckdb"),
        ({"WORKBENCH_WAREHOUSE_STAGING_URL": "s3://b/p"}, "WORKBENCH_WAREHOUSE_STAGING_URL is for redshift"),
        ({"WORKBENCH_WAREHOUSE_IAM_ROLE": "default"}, "WORKBENCH_WAREHOUSE_IAM_ROLE is for redshift"),
        ({"WORKBENCH_WAREHOUSE_DIALECT": "redshift"}, "but DW_HOST is not set"),
        (REDSHIFT | {"WORKBENCH_WAREHOUSE_STAGING_URL": ""}, "but WORKBENCH_WAREHOUSE_STAGING_URL is not set"),
        (REDSHIFT | {"WORKBENCH_WAREHOUSE_IAM_ROLE": ""}, "but WORKBENCH_WAREHOUSE_IAM_ROLE is not set"),
        (REDSHIFT | {"WORKBENCH_WAREHOUSE_IAM_ROLE": "reader"}, "'reader' is no ARN of a role"),
        (REDSHIFT | {"WORKBENCH_WAREHOUSE_STAGING_URL": "gs://bucket"}, "is not s3://bucket/prefix"),
        (REDSHIFT | {"WORKBENCH_WAREHOUSE_STAGING_URL": "s3://key:secret@bucket/p"}, "without keys"),
    ],
)
def test_contradictions_are_named(monkeypatch, values, part):
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, values)

    assert part in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_table_of_capabilities_is_that_of_the_code():
    page = resource("docs/warehouse.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    names = [field.name for field in dataclasses.fields(Capabilities)]
    dialects = ("postgresql", "duckdb", "redshift")

    assert re.search(r"^\| \| \| PostgreSQL \| DuckDB \| Redshift \|$", page, re.MULTILINE)
    assert {name: cells for name, *cells in rows} == {
        name: [_cell(getattr(CAPABILITIES[dialect], name)) for dialect in dialects] for name in names
    }


def test_duckdb_replaces_rows_only_where_nothing_is_lost():
    columns = ("id", "v", "_partition", "_offset")

    assert merge_statements('"raw"."t"', "s", columns, ["id"], replaces=True) == (
        (
            'DELETE FROM "raw"."t" AS mine USING s AS new WHERE mine."id" = new."id" '
            "AND (mine._partition IS DISTINCT FROM new._partition OR mine._offset < new._offset)"
        ),
        (
            'INSERT INTO "raw"."t" ("id", "v", "_partition", "_offset") SELECT "id", "v", "_partition", "_offset" FROM s AS new '
            'WHERE NOT EXISTS (SELECT 1 FROM "raw"."t" AS mine WHERE mine."id" = new."id")'
        ),
    )
    assert merge_statements('"raw"."t"', "s", columns, ["id"], replaces=False) == (
        (
            'MERGE INTO "raw"."t" AS mine USING s AS new ON mine."id" = new."id" '
            "WHEN MATCHED AND (mine._partition IS DISTINCT FROM new._partition OR mine._offset < new._offset) "
            'THEN UPDATE SET "v" = new."v", "_partition" = new."_partition", "_offset" = new."_offset" '
            'WHEN NOT MATCHED THEN INSERT ("id", "v", "_partition", "_offset") '
            'VALUES (new."id", new."v", new."_partition", new."_offset")'
        ),
    )


def test_rows_get_the_wider_types_of_the_table_and_large_integers_are_rounded():
    rows = pa.table(
        {"n": pa.array([2**53 + 1, None, -5]), "small": pa.array([1, 2, None], pa.int16()), "t": list("abc")}
    )

    found = fitted(rows, {"n": pa.float64(), "small": pa.int64(), "t": None})

    assert found.schema.types == [pa.float64(), pa.int64(), pa.string()]
    assert found["n"].to_pylist() == [2.0**53, None, -5.0]
    assert found["small"].to_pylist() == [1, 2, None]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE in a read-only transaction"),
            WarehouseUnavailable,
        ),
        (psycopg.errors.SerializationFailure("could not serialize access"), WarehouseUnavailable),
        (psycopg.errors.UndefinedTable("no such relation"), WarehouseError),
        (psycopg.errors.InternalError_("cache lookup failed"), WarehouseError),
    ],
    ids=repr,
)
def test_what_waiting_may_cure_is_an_outage(monkeypatch, error, kind):
    wrapped = sa.exc.DBAPIError.instance("UPDATE", {}, error, psycopg.Error)
    settings = load(monkeypatch, {}).warehouse

    with pytest.raises(kind) as caught, reported(settings):
        raise wrapped

    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"), WarehouseUnavailable, "asks to try again: canceling statement due to lock"),
        (psycopg.errors.QueryCanceled("canceling statement due to statement timeout"), WarehouseUnavailable, "asks to try again: canceling statement due to s"),
        (psycopg.errors.ProgramLimitExceeded("row is too big"), WarehouseError, "refused the query: row is too big"),
        (psycopg.OperationalError("server closed the connection"), WarehouseUnavailable, "did not let workbench in or did not answer"),
        (psycopg.OperationalError("password authentication failed"), WarehouseError, "did not let workbench in or did not answer"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_the_server_answers_is_not_called_silence(monkeypatch, error, kind, told):
    settings = load(monkeypatch, {"DW_USER": "workbench"}).warehouse

    with pytest.raises(kind, match=told) as caught, reported(settings):
        raise sa.exc.DBAPIError.instance("UPDATE", {}, error, psycopg.Error)

    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "error",
    [psycopg.errors.ReadOnlySqlTransaction("read-only transaction"), psycopg.errors.IoError("could not read block")],
    ids=repr,
)
def test_the_store_takes_for_an_outage_what_flows_do(error):
    wrapped = sa.exc.DBAPIError.instance("UPDATE", {}, error, psycopg.Error)

    assert isinstance(_as_store_error(wrapped, "h:5432/d", "role"), StoreUnavailable)


def _cell(value: bool | str) -> str:
    return value if isinstance(value, str) else ("yes" if value else "no")
