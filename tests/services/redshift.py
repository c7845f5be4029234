"""A double of the Redshift *server*: PostgreSQL, with COPY from Parquet emulated, and what Redshift lacks refused.

It shows that the statements do what they should where both agree. It is no proof that Redshift
takes them: isolation, locks, casts and the planner are PostgreSQL's.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql
from psycopg.types.string import TextLoader
from pyarrow import fs

from workbench.sections import EMBEDDED_SUPERUSER, WarehouseSettings
from workbench.security.secrets import ensure_token
from workbench.settings import Settings
from workbench.warehouse.dialects.redshift_engine import Driver

ROLE = "arn:aws:iam::123456789012:role/reader"
URL = "s3://bucket/some/prefix"
COPY = re.compile(r"""COPY "(\w+)" FROM '(s3://[^']+)' IAM_ROLE '([^']+)' FORMAT AS PARQUET MANIFEST""")
# What PostgreSQL has and Redshift has not.
LACKING = re.compile(
    r"""ON CONFLICT|\bRETURNING\b|ON COMMIT|\(VALUES|TRUNCATE|\bnow\(\)|pg_advisory|SAVEPOINT|SKIP LOCKED|FOR UPDATE
    |\bTEXT\b|\bBYTEA\b|\bJSONB?\b|PRIMARY\ KEY|ALTER\ COLUMN\ \S+\ TYPE\ (?!VARCHAR)|CURRENT_TIMESTAMP""",
    re.VERBOSE,
)
FUNCTIONS = """
CREATE FUNCTION getdate() RETURNS timestamp LANGUAGE sql AS $$ SELECT date_trunc('second', clock_timestamp() AT TIME ZONE 'UTC') $$;
CREATE FUNCTION json_parse(text) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT $1::json $$;
CREATE VIEW svv_columns AS SELECT table_schema, table_name, column_name, ordinal_position, is_nullable,
  CASE data_type WHEN 'json' THEN 'super' WHEN 'bytea' THEN 'binary varying' ELSE data_type END AS data_type,
  character_maximum_length, numeric_precision, numeric_scale FROM information_schema.columns;
"""
# Types that COPY takes from Parquet for a column, by the name that PostgreSQL has for it.
FROM_PARQUET: dict[str, tuple[pa.DataType, ...]] = {
    "bool": (pa.bool_(),),
    "int2": (pa.int16(),),
    "int4": (pa.int32(),),
    "int8": (pa.int64(),),
    "float8": (pa.float64(),),
    "varchar": (pa.string(),),
    "bytea": (pa.binary(),),
    "date": (pa.date32(),),
    "timestamp": (pa.timestamp("us"),),
}


class RedshiftDouble:
    """A database of its own, and a folder that stands for the bucket."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        warehouse, name = settings.warehouse, f"redshift_{uuid4().hex}"
        superuser = {"user": EMBEDDED_SUPERUSER, "dbname": "postgres"}
        superuser["password"] = ensure_token(settings.home / "keys" / "warehouse-superuser-password")
        at = {"host": warehouse.host, "port": warehouse.port}
        with psycopg.connect(**at, **superuser, autocommit=True) as connection:
            owner = sql.Identifier(warehouse.user)
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), owner))
        self._options = {
            **at,
            "dbname": name,
            "user": warehouse.user,
            "password": warehouse.password.get_secret_value(),
        }
        with psycopg.connect(**self._options) as connection:
            connection.execute(FUNCTIONS)
        (folder / "bucket").mkdir()
        self.folder = folder
        self.files = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
        self.driver = Driver(psycopg, self._connect)
        self.statements: list[str] = []
        self.settings = WarehouseSettings.model_validate(
            {
                **warehouse.as_environment(),
                "DW_DATABASE": name,
                "WORKBENCH_WAREHOUSE_DIALECT": "redshift",
                "WORKBENCH_WAREHOUSE_STAGING_URL": URL,
                "WORKBENCH_WAREHOUSE_IAM_ROLE": ROLE,
            }
        )

    def _connect(self) -> _Connection:
        connection = psycopg.connect(**self._options)
        connection.adapters.register_loader("json", TextLoader)  # SUPER comes as text
        return _Connection(connection, self)

    def copy(self, connection: psycopg.Connection[Any], table: str, manifest: str) -> None:
        """Load the files of a manifest as Redshift would, or refuse as it would."""
        with connection.cursor() as cursor:
            columns = cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(table))).description
        assert columns is not None
        oids = [column.type_code for column in columns]
        kinds = [psycopg.adapters.types[oid].name for oid in oids]
        for entry in json.loads(self._path(manifest).read_text())["entries"]:
            path = self._path(entry["url"])
            assert entry["mandatory"] is True
            assert path.stat().st_size == entry["meta"]["content_length"]
            rows = pq.read_table(path)
            assert rows.num_columns == len(kinds), "COPY goes by position: a file has all columns"
            for kind, field in zip(kinds, rows.schema, strict=True):
                fits = pa.types.is_decimal(field.type) if kind == "numeric" else field.type in FROM_PARQUET[kind]
                assert fits, f"{field} does not go into {kind}"
            with (
                connection.cursor() as cursor,
                cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(sql.Identifier(table))) as copy,
            ):
                copy.set_types(oids)
                for row in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                    copy.write_row(row)

    def _path(self, url: str) -> Path:
        return self.folder / url.removeprefix("s3://")


class _Connection:
    def __init__(self, connection: psycopg.Connection[Any], double: RedshiftDouble) -> None:
        self._connection, self._double = connection, double

    def cursor(self) -> _Cursor:
        return _Cursor(self._connection, self._double)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class _Cursor:
    def __init__(self, connection: psycopg.Connection[Any], double: RedshiftDouble) -> None:
        self._connection, self._double = connection, double
        self._cursor = connection.cursor()

    def execute(self, statement: str, parameters: Any = ()) -> None:
        self._double.statements.append(statement)
        outside_quotes = re.sub(r'"[^"]*"', "", statement)
        if found := LACKING.search(outside_quotes):
            raise psycopg.ProgrammingError(f"Redshift has no {found.group()}")
        if statement == "SET enable_case_sensitive_identifier TO true":
            return
        if statement.startswith("COPY"):
            copy = COPY.fullmatch(statement.replace("%%", "%"))
            assert copy is not None, statement
            assert copy[3] == ROLE
            self._double.copy(self._connection, copy[1], copy[2])
            return
        statement = re.sub(r"\bVARBYTE\(\d+\)", "bytea", statement)
        self._cursor.execute(re.sub(r"\bSUPER\b", "json", statement), parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)
