"""What flows say to Redshift, as text: no ON CONFLICT, no RETURNING, no TRUNCATE, which commits.

Sources: docs.aws.amazon.com, "Database Developer Guide": COPY, "COPY from columnar data formats",
"Merge examples", ALTER TABLE, LOCK.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import sqlalchemy as sa

from workbench.loading import JSON
from workbench.warehouse.dialects.redshift_engine import RedshiftDialect
from workbench.warehouse.schema import is_wider, quoted, split_name, sql_type, text_literal

DIALECT = RedshiftDialect()
# The time is UTC: GETDATE gives no zone.
LEDGER = """\
CREATE TABLE IF NOT EXISTS "workbench"."offsets" (
    "target" VARCHAR(1000) NOT NULL, "topic" VARCHAR(1000) NOT NULL, "partition" INTEGER NOT NULL,
    "cluster_id" VARCHAR(1000) NOT NULL, "topic_id" VARCHAR(1000) NOT NULL,
    "next_offset" BIGINT NOT NULL, "epoch" BIGINT NOT NULL,
    "updated_at" TIMESTAMP NOT NULL DEFAULT GETDATE(), "first_offset" BIGINT
)"""
LEDGER_SCHEMA = 'CREATE SCHEMA IF NOT EXISTS "workbench"'
# Who claims, merges or alters goes one after the other, and sees what those before have written.
LOCK = 'LOCK TABLE "workbench"."offsets"'

ORIGIN_NAMES = frozenset({"_partition", "_offset"})


def column_type(field: pa.Field) -> str:
    """The type of a column."""
    return sa.types.to_instance(sql_type(field)).compile(DIALECT)


def stage_statement(stage: str, columns: pa.Schema) -> str:
    """A temporary table with the columns of a Parquet file, in its order: COPY goes by position.

    COPY knows no zone in Parquet's timestamps, and makes no SUPER of a text.
    """
    types = (
        "TIMESTAMP"
        if pa.types.is_timestamp(field.type)
        else "VARCHAR(65535)"
        if field.type == JSON
        else column_type(field)
        for field in columns
    )
    names = ", ".join(f"{quoted(field.name)} {kind}" for field, kind in zip(columns, types, strict=True))
    return f"CREATE TEMP TABLE {quoted(stage)} ({names})"


def copy_statement(stage: str, manifest: str, iam_role: str) -> str:
    """One COPY of all files of a manifest."""
    role = "default" if iam_role == "default" else text_literal(iam_role)
    return f"COPY {quoted(stage)} FROM {text_literal(manifest)} IAM_ROLE {role} FORMAT AS PARQUET MANIFEST"


def drop_statement(stage: str) -> str:
    """The end of a temporary table."""
    return f"DROP TABLE {quoted(stage)}"


def append_statement(table: str, stage: str, columns: pa.Schema) -> str:
    """Every row of a stage into a table."""
    return (
        f"INSERT INTO {_table(table)} ({_names(columns.names)}) SELECT {_values(stage, columns)} FROM {quoted(stage)}"
    )


def merge_statements(table: str, stage: str, columns: pa.Schema, key: Sequence[str]) -> tuple[str, str]:
    """Replace the rows whose key is in the stage, then insert the others (AWS's second method of merging).

    A row is not replaced by one that comes before it in the same partition. Columns that the
    stage lacks are kept.
    """
    mine = quoted(split_name(table)[1])
    others = [field for field in columns if field.name not in key]
    values = ", ".join(f"{quoted(field.name)} = {_value(stage, field)}" for field in others)
    same = _same(mine, stage, [columns.field(name) for name in key])
    replace = f"UPDATE {_table(table)} SET {values} FROM {quoted(stage)} WHERE {same} AND {_older(mine, stage)}"
    # Rows without an origin have got one by now.
    absent = f"LEFT JOIN {_table(table)} ON {same} WHERE {mine}.{quoted('_offset')} IS NULL"
    return replace, f"{append_statement(table, stage, columns)} {absent}"


def delete_statement(table: str, stage: str, key: pa.Schema) -> str:
    """Delete the rows whose key is in the stage; with the origin in the stage, those that came before it."""
    mine, gone = quoted(split_name(table)[1]), quoted(stage)
    same = _same(mine, stage, pa.schema([field for field in key if field.name not in ORIGIN_NAMES]))
    older = f" AND {_older(mine, stage)}" if set(key.names) >= ORIGIN_NAMES else ""
    return f"DELETE FROM {_table(table)} USING {gone} WHERE {same}{older}"


def alter_statements(table: str, column: pa.Field, columns: Mapping[str, pa.DataType | None]) -> tuple[str, ...]:
    """Add a column, or widen it: Redshift changes no type but VARCHAR's length, so it is copied."""
    name, kind, alter = quoted(column.name), column_type(column), f"ALTER TABLE {_table(table)}"
    found = columns.get(column.name)
    if found is None or not is_wider(column.type, found):
        return (f"{alter} ADD COLUMN {name} {kind}",)
    wider = quoted(f"{column.name} (wider)")
    return (
        f"{alter} ADD COLUMN {wider} {kind}",
        f"UPDATE {_table(table)} SET {wider} = {name}",
        f"{alter} DROP COLUMN {name}",
        f"{alter} RENAME COLUMN {wider} TO {name}",
    )


def _values(stage: str, columns: pa.Schema) -> str:
    return ", ".join(_value(stage, field) for field in columns)


def _value(stage: str, field: pa.Field) -> str:
    name = f"{quoted(stage)}.{quoted(field.name)}"
    if pa.types.is_timestamp(field.type):
        return f"{name} AT TIME ZONE 'UTC'"
    return f"JSON_PARSE({name})" if field.type == JSON else name


def _same(mine: str, stage: str, key: Iterable[pa.Field]) -> str:
    return " AND ".join(f"{mine}.{quoted(field.name)} = {_value(stage, field)}" for field in key)


def _older(mine: str, stage: str) -> str:
    """Rows of the table that come before those of the stage; rows from before the flow have no origin, and do."""
    partition, offset = (quoted(name) for name in ("_partition", "_offset"))
    new = quoted(stage)
    return (
        f"({mine}.{partition} IS NULL OR {mine}.{partition} <> {new}.{partition} OR {mine}.{offset} < {new}.{offset})"
    )


def _table(table: str) -> str:
    return quoted(*split_name(table))


def _names(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)
