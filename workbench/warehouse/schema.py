"""Tables of the warehouse from Arrow schemas, and what may be done when the two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from workbench.errors import WarehouseError
from workbench.loading import JSON

SqlType = type[sa.types.TypeEngine[Any]] | sa.types.TypeEngine[Any]
SQL_TYPES: dict[pa.DataType, SqlType] = {
    pa.bool_(): sa.Boolean,
    pa.int16(): sa.SmallInteger,
    pa.int32(): sa.Integer,
    pa.int64(): sa.BigInteger,
    pa.float64(): sa.Double,
    pa.string(): sa.Text,
    pa.binary(): sa.LargeBinary,
    pa.date32(): sa.Date,
    pa.timestamp("us", tz="UTC"): postgresql.TIMESTAMP(timezone=True),
    JSON: sa.JSON,
}
WIDENING = (pa.int16(), pa.int32(), pa.int64(), pa.float64())
EXACT_INTEGERS = 2**53  # of a double
# Of a parameter style without %, which would be doubled in names.
_PREPARER = postgresql.dialect(paramstyle="numeric_dollar").identifier_preparer  # type: ignore[no-untyped-call]
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


def quoted(*parts: str) -> str:
    """The parts of a name as one SQL identifier: `"raw"."flights"`."""
    return ".".join(_PREPARER.quote_identifier(part) for part in parts)


def text_literal(value: str) -> str:
    """A text as SQL: `'it''s'`."""
    return "'" + value.replace("'", "''") + "'"


def sql_type(field: pa.Field) -> SqlType:
    """The SQL type of a column.

    Raises:
        WarehouseError: when there is none.
    """
    if pa.types.is_decimal(field.type):
        return sa.Numeric(field.type.precision, field.type.scale)
    try:
        return SQL_TYPES[field.type]
    except KeyError:
        known = ", ".join(map(str, SQL_TYPES))
        raise WarehouseError(
            f"column {field.name} has the Arrow type {field.type}, which has no SQL type here",
            remedy=f"Cast it to one of {known}.",
        ) from None


def arrow_type(found: sa.types.TypeEngine[Any]) -> pa.DataType | None:
    """The Arrow type of a column of a table; None when flows cannot write it."""
    if isinstance(found, postgresql.JSONB | sa.Enum):  # binary COPY wants formats of their own
        return None
    if isinstance(found, sa.Numeric) and not isinstance(found, sa.Float) and found.precision:
        return pa.decimal128(min(found.precision, 38), found.scale or 0)
    for kind, sql in (
        (pa.bool_(), sa.Boolean),
        (pa.int16(), sa.SmallInteger),
        (pa.int64(), sa.BigInteger),
        (pa.int32(), sa.Integer),
        (pa.float64(), sa.Double),
        (pa.string(), sa.String),
        (pa.binary(), sa.LargeBinary),
        (pa.date32(), sa.Date),
        (JSON, sa.JSON),
    ):
        if isinstance(found, sql):
            return kind
    is_zoned = isinstance(found, sa.TIMESTAMP) and found.timezone
    return pa.timestamp("us", tz="UTC") if is_zoned else None


def table_columns(connection: sa.Connection, table: str) -> Mapping[str, pa.Field]:
    """Columns of an existing table that flows can write, by name; the others are left out."""
    schema, name = split_name(table)
    columns = {}
    for column in sa.inspect(connection).get_columns(name, schema):
        kind = arrow_type(column["type"])
        if kind is not None:
            columns[str(column["name"])] = pa.field(str(column["name"]), kind, nullable=bool(column["nullable"]))
    return columns


def add_missing(connection: sa.Connection, table: str, columns: pa.Schema) -> None:
    """Add the nullable columns that a table of an older version lacks."""
    schema, name = split_name(table)
    present = {str(column["name"]) for column in sa.inspect(connection).get_columns(name, schema)}
    for field in columns:
        if field.name not in present:
            kind = sa.types.to_instance(sql_type(field)).compile(connection.dialect)
            connection.execute(literal(f"ALTER TABLE {quoted(schema, name)} ADD COLUMN {quoted(field.name)} {kind}"))


def literal(statement: str) -> sa.TextClause:
    """A statement without parameters: a colon in a name or a cast is a colon."""
    return sa.text(statement.replace(":", "\\:"))


def read_columns(connection: sa.Connection, table: str) -> pa.Schema | None:
    """The columns of a table that flows can write; None when there is no such table."""
    schema, name = split_name(table)
    if not sa.inspect(connection).has_table(name, schema):
        return None
    return pa.schema(list(table_columns(connection, table).values()))


def is_wider(kind: pa.DataType, than: pa.DataType) -> bool:
    """Whether every number of the type *than* is one of *kind*, doubles from integers up to 2^53 included."""
    return kind in WIDENING and than in WIDENING and WIDENING.index(kind) > WIDENING.index(than)


def lock_ddl(connection: sa.Connection) -> None:
    """Be the only one who makes schemas and tables until the transaction ends.

    IF NOT EXISTS is no help: of two who make the same at once, PostgreSQL refuses the second with a duplicate key.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": DDL_LOCK})


def ensure_table(
    connection: sa.Connection,
    table: str,
    columns: pa.Schema,
    *,
    key: Sequence[str] = (),
    evolves: bool = False,
    unique: bool = True,
) -> bool:
    """Make *table* when it is not there, and tell whether it was made; check that it fits when it is.

    Args:
        connection: in a transaction, which the table is made in.
        table: `schema.table`; both are made.
        columns: what is to be written.
        key: columns of the primary key; a table that is there has a unique index on just these.
        evolves: whether columns that are missing or too narrow are no misfit, because a load adds or widens them.
        unique: whether the dialect merges by an index of the key; without, the key is only not null.

    Raises:
        WarehouseError: naming every column that is missing or has another type.
    """
    schema, name = split_name(table)
    lock_ddl(connection)
    inspector = sa.inspect(connection)
    if not inspector.has_schema(schema):
        connection.execute(sa.schema.CreateSchema(schema))
    if not inspector.has_table(name, schema):
        sql_columns = [
            sa.Column(
                field.name,
                sql_type(field),
                nullable=field.nullable and field.name not in key,
                primary_key=unique and field.name in key,
                autoincrement=False,
            )
            for field in columns
        ]
        sa.Table(name, sa.MetaData(), *sql_columns, schema=schema).create(connection)
        return True
    existing = {str(column["name"]): column["type"] for column in inspector.get_columns(name, schema)}
    problems = [problem for field in columns if (problem := _misfit(field, existing, connection, evolves=evolves))]
    if key and unique and not _has_unique(inspector, schema, name, key):
        problems.append(f"there is no unique index on ({', '.join(key)}), which merge needs")
    if problems:
        raise WarehouseError(
            f"{table} does not fit: {'; '.join(problems)}",
            remedy="Change the flow's columns or the table, or ingest into a new table.",
        )
    return False


def _has_unique(inspector: sa.Inspector, schema: str, name: str, key: Sequence[str]) -> bool:
    found: list[Sequence[str | None]] = [inspector.get_pk_constraint(name, schema)["constrained_columns"]]
    found += [each["column_names"] for each in inspector.get_unique_constraints(name, schema)]
    found += [each["column_names"] for each in inspector.get_indexes(name, schema) if each["unique"]]
    return any(sorted(map(str, columns)) == sorted(key) for columns in found)


def _misfit(
    field: pa.Field, existing: Mapping[str, sa.types.TypeEngine[Any]], connection: sa.Connection, *, evolves: bool
) -> str:
    if field.name not in existing:
        return "" if evolves and field.nullable else f"column {field.name} is missing"
    found = arrow_type(existing[field.name])
    if found is not None and (found == field.type or is_wider(found, field.type)):
        return ""
    if found is not None and evolves and is_wider(field.type, found):
        return ""
    wanted = sa.types.to_instance(sql_type(field)).compile(connection.dialect)
    return f"column {field.name} is {existing[field.name].compile(connection.dialect)}, not {wanted}"
