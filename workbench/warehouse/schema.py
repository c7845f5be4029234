"""Tables of the warehouse, made from Arrow schemas."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from workbench.errors import WarehouseError

SqlType = type[sa.types.TypeEngine[Any]] | sa.types.TypeEngine[Any]
SQL_TYPES: dict[pa.DataType, SqlType] = {
    pa.bool_(): sa.Boolean,
    pa.int16(): sa.SmallInteger,
    pa.int32(): sa.Integer,
    pa.int64(): sa.BigInteger,
    pa.float64(): sa.Double,
    pa.string(): sa.Text,
    pa.binary(): sa.LargeBinary,
    pa.timestamp("us", tz="UTC"): postgresql.TIMESTAMP(timezone=True),
}
_PREPARER = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]
DDL_LOCK = 0x776F726B  # "work": two flows that begin together make tables one after the other


def split_name(table: str) -> tuple[str, str]:
    """Schema and table of `schema.table`.

    Raises:
        WarehouseError: when it is not written so.
    """
    schema, dot, name = table.partition(".")
    if not (schema and dot and name) or "." in name:
        raise WarehouseError(f"{table!r} is no table name", remedy="Write schema.table, for example raw.flights.")
    return schema, name


def ensure_table(connection: sa.Connection, table: str, columns: pa.Schema) -> bool:
    """Make *table* when it is not there, and tell whether it was made; check that it fits when it is.

    Raises:
        WarehouseError: naming every column that is missing or has another type.
    """
    schema, name = split_name(table)
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": DDL_LOCK})
    inspector = sa.inspect(connection)
    if not inspector.has_schema(schema):
        connection.execute(sa.schema.CreateSchema(schema))
    if not inspector.has_table(name, schema):
        sql_columns = [sa.Column(field.name, _sql_type(field), nullable=field.nullable) for field in columns]
        sa.Table(name, sa.MetaData(), *sql_columns, schema=schema).create(connection)
        return True
    existing = {str(column["name"]): column["type"] for column in inspector.get_columns(name, schema)}
    problems = [problem for field in columns if (problem := _misfit(field, existing, connection.dialect))]
    if problems:
        raise WarehouseError(
            f"{table} does not fit: {'; '.join(problems)}",
            remedy="Change the flow's columns or the table, or ingest into a new table.",
        )
    return False


def _sql_type(field: pa.Field) -> SqlType:
    try:
        return SQL_TYPES[field.type]
    except KeyError:
        known = ", ".join(map(str, SQL_TYPES))
        raise WarehouseError(
            f"column {field.name} has the Arrow type {field.type}, which has no SQL type here",
            remedy=f"Cast it to one of {known}.",
        ) from None


def _misfit(field: pa.Field, existing: dict[str, sa.types.TypeEngine[Any]], dialect: sa.Dialect) -> str:
    if field.name not in existing:
        return f"column {field.name} is missing"
    kind = _sql_type(field)
    wanted = sa.types.to_instance(kind).compile(dialect)
    found = existing[field.name].compile(dialect)
    return "" if wanted == found else f"column {field.name} is {found}, not {wanted}"


def quoted(*parts: str) -> str:
    """The parts of a name as one SQL identifier: `"raw"."flights"`."""
    return ".".join(_PREPARER.quote_identifier(part) for part in parts)
