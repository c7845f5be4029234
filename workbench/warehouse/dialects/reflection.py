"""What SQLAlchemy needs of databases that are not quite PostgreSQL: columns from `information_schema`, and quotes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "boolean": sa.Boolean(),
    "smallint": sa.SmallInteger(),
    "integer": sa.Integer(),
    "bigint": sa.BigInteger(),
    "double": sa.Double(),
    "double precision": sa.Double(),
    "varchar": sa.Text(),
    "character varying": sa.Text(),
    "blob": sa.LargeBinary(),
    "binary varying": sa.LargeBinary(),
    "varbyte": sa.LargeBinary(),
    "date": sa.Date(),
    "timestamp with time zone": sa.TIMESTAMP(timezone=True),
    "json": sa.JSON(),
    "super": sa.JSON(),
}


class OtherType(sa.types.UserDefinedType[Any]):
    """A type that flows do not write."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        """Its own name."""
        return self.name


def type_named(
    name: str, precision: int | None, scale: int | None, length: int | None = None
) -> sa.types.TypeEngine[Any]:
    """SQLAlchemy's type for a `data_type` of `information_schema.columns`."""
    base = name.partition("(")[0].strip().lower()
    if base == "character varying" and length:
        return sa.VARCHAR(length)
    if base in ("decimal", "numeric"):
        return sa.Numeric(precision, scale)
    return TYPES.get(base) or OtherType(name)


class ColumnReflection:
    """Mixed into a SQLAlchemy dialect: reflects columns, and no keys or indexes."""

    columns_query: str  #: name, type, nullable, precision, scale, length of the columns of :table in :schema, in order

    def get_columns(
        self, connection: sa.Connection, table_name: str, schema: str | None = None, **_: Any
    ) -> list[dict[str, Any]]:
        """The columns in order; raises NoSuchTableError when there is no such table."""
        found = connection.execute(sa.text(self.columns_query), {"schema": schema, "table": table_name}).all()
        if not found:
            raise sa.exc.NoSuchTableError(table_name)
        return [
            {"name": name, "type": type_named(kind, *sizes), "nullable": nullable == "YES", "default": None}
            for name, kind, nullable, *sizes in found
        ]

    def has_table(self, connection: sa.Connection, table_name: str, schema: str | None = None, **_: Any) -> bool:
        """Whether the table is there."""
        return bool(connection.execute(sa.text(self.columns_query), {"schema": schema, "table": table_name}).all())

    def get_pk_constraint(self, *_: Any, **__: Any) -> dict[str, Any]:
        """None: keys are not reflected."""
        return {"constrained_columns": [], "name": None}

    def _nothing(self, *_: Any, **__: Any) -> list[Any]:
        return []

    get_indexes = get_foreign_keys = get_unique_constraints = get_check_constraints = _nothing

    def get_table_comment(self, *_: Any, **__: Any) -> dict[str, Any]:
        """None: comments are not reflected."""
        return {"text": None}

    def get_table_options(self, *_: Any, **__: Any) -> dict[str, Any]:
        """None: options are not reflected."""
        return {}

    get_multi_columns = DefaultDialect.get_multi_columns
    get_multi_pk_constraint = DefaultDialect.get_multi_pk_constraint
    get_multi_foreign_keys = DefaultDialect.get_multi_foreign_keys
    get_multi_indexes = DefaultDialect.get_multi_indexes
    get_multi_unique_constraints = DefaultDialect.get_multi_unique_constraints
    get_multi_check_constraints = DefaultDialect.get_multi_check_constraints
    get_multi_table_comment = DefaultDialect.get_multi_table_comment
    get_multi_table_options = DefaultDialect.get_multi_table_options


class QuotesEverything:
    """Mixed into a preparer of identifiers of SQLAlchemy, whose list of reserved words lacks some."""

    def _requires_quotes(self, value: str) -> bool:
        """Yes, whatever it is."""
        return True
