"""Whether the columns of a frame fit a table of the warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.warehouse.schema import quoted, split_name
from workbench.warehouse.spark.options import WriteOptions
from workbench.warehouse.spark.types import Field, misfit

COLUMNS = (
    "SELECT attname AS name, format_type(atttypid, atttypmod) AS kind, typtype = 'e' AS is_enum, "
    "attnotnull AND NOT atthasdef AND attidentity = '' AS is_needed, attgenerated <> '' AS is_generated "
    "FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid "
    "WHERE attrelid = CAST(:name AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
UNIQUE = (
    "SELECT array_agg(attname::text ORDER BY attname::text) AS columns FROM pg_index "
    "JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey) "
    "WHERE indrelid = CAST(:name AS regclass) AND indisunique AND indpred IS NULL AND indexprs IS NULL "
    "GROUP BY indexrelid"
)


def check_fit(connection: sa.Connection, options: WriteOptions, fields: Sequence[Field]) -> Mapping[str, Any]:
    """The columns of the table by name; empty when it is not there.

    Raises:
        WarehouseError: naming every column that does not fit.
    """
    schema, name = split_name(options.table)
    table = {"name": quoted(schema, name)}
    problems = [
        f"the frame has no column {column}"
        for column in (*options.key, *options.replace)
        if column not in {field.name for field in fields}
    ]
    found: dict[str, Any] = {}
    if sa.inspect(connection).has_table(name, schema):
        found = {row.name: row for row in connection.execute(sa.text(COLUMNS), table)}
        problems += _misfits(fields, found)
        unique = [list(row.columns) for row in connection.execute(sa.text(UNIQUE), table)]
        if options.key and sorted(options.key) not in unique:
            problems.append(f"there is no unique index on ({', '.join(options.key)}), which `key` needs")
    if problems:
        raise WarehouseError(
            f"the frame does not fit {options.table}: {'; '.join(problems)}",
            remedy="Cast, rename or drop columns of the frame, change the table, or write a new one.",
        )
    return found


def _misfits(fields: Sequence[Field], found: Mapping[str, Any]) -> list[str]:
    names = {field.name for field in fields}
    problems = [f"column {field.name} is missing in the table" for field in fields if field.name not in found]
    problems += [
        text
        for field in fields
        if field.name in found and (text := misfit(field, found[field.name].kind, is_enum=found[field.name].is_enum))
    ]
    problems += [
        f"column {field.name} is generated"
        for field in fields
        if field.name in found and found[field.name].is_generated
    ]
    return problems + [
        f"the frame has no column {row.name}, which must not be null"
        for row in found.values()
        if row.is_needed and not row.is_generated and row.name not in names
    ]
