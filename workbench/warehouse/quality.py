"""A table of the warehouse as an engine of checks, in SQL: what `workbench.transformation.quality.checks` asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.warehouse.schema import split_name

Condition = sa.ColumnElement[bool]
ROWS = "rows"
FLOATS = ("FLOAT", "REAL")
# Types that SQLAlchemy does not know by a class of its own, as DuckDB has them.
FAMILIES = {
    **dict.fromkeys((*FLOATS, "TINYINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"), "number"),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"), "time"),
}
CLASSES: tuple[tuple[str, Any], ...] = (
    ("", sa.Enum),  # a String to SQLAlchemy, not to the database
    ("boolean", sa.Boolean),
    ("number", (sa.Integer, sa.Float, sa.Numeric)),
    ("text", sa.String),
    ("time", sa.DateTime),
    ("date", sa.Date),
)


def table_engine(connection: sa.Connection, table: str) -> TableEngine:
    """The engine for the rows of a table, as they are now: what others change meanwhile is not seen.

    Args:
        connection: in a transaction that has asked nothing yet; in PostgreSQL it becomes read-only.
        table: `schema.table`.

    Raises:
        WarehouseError: when there is no such table, or the dialect is another than PostgreSQL and DuckDB.
    """
    if connection.dialect.name not in {"duckdb", "postgresql"}:
        raise WarehouseError(
            f"expectations are checked in PostgreSQL and DuckDB, not in {connection.dialect.name}",
            remedy="Check the rows on Spark, before they are written.",
        )
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    return TableEngine(connection, read_table(connection, table))


class TableEngine:
    """The rows of a table of PostgreSQL or DuckDB, in one transaction."""

    def __init__(self, connection: sa.Connection, table: sa.Table) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._table = table

    @property
    def families(self) -> Mapping[str, str]:
        """Of each column what its values can be compared with."""
        return {column.name: _family(column.type) for column in self._table.columns}

    def is_missing(self, column: str) -> Condition:
        """Null or not a number."""
        return _is_missing(self._table.c[column], self._dialect)

    def is_below(self, column: str, value: Any) -> Condition:
        """Less than a value."""
        return sa.func.coalesce(self._table.c[column] < self._literal(column, value), sa.false())

    def is_above(self, column: str, value: Any) -> Condition:
        """More than a value."""
        return sa.func.coalesce(self._table.c[column] > self._literal(column, value), sa.false())

    def is_in(self, column: str, values: Sequence[Any]) -> Condition:
        """One of the values."""
        found = self._table.c[column].in_([self._literal(column, value) for value in values])
        return sa.func.coalesce(found, sa.false())

    def matches(self, column: str, pattern: str) -> Condition:
        """The whole text matches a pattern. A dot is a line's end, too: in PostgreSQL anyway, in DuckDB by (?s)."""
        found = self._table.c[column]
        if self._dialect == "duckdb":
            return sa.func.coalesce(sa.func.regexp_matches(found, rf"(?s)\A(?:{pattern})\z"), sa.false())
        return sa.func.coalesce(found.op("~", is_comparison=True)(rf"\A(?:{pattern})\Z"), sa.false())

    def aggregate(self, conditions: Mapping[str, Condition], newest: Mapping[str, str]) -> Mapping[str, int | None]:
        """Counts and newest times, in one statement."""
        wanted: list[sa.ColumnElement[Any]] = [sa.func.count().label(ROWS)]
        wanted += [sa.func.count(sa.case((condition, 1))).label(name) for name, condition in conditions.items()]
        wanted += [self._microseconds(column).label(name) for name, column in newest.items()]
        found = self._connection.execute(sa.select(*wanted).select_from(self._table)).one()
        return {name: None if value is None else int(value) for name, value in found._mapping.items()}  # noqa: SLF001

    def count_surplus(self, columns: Sequence[str]) -> int:
        """The rows that are too many when each combination of values may be there once."""
        groups = self._repeated(columns, sa.func.count().label("rows")).subquery()
        query = sa.select(sa.func.coalesce(sa.func.sum(groups.c.rows - 1), 0))
        return int(self._connection.execute(query).scalar_one())

    def count_orphans(self, columns: Sequence[str], table: str, references: Sequence[str]) -> int:
        """The rows whose values are not in the other table."""
        query = sa.select(sa.func.count()).select_from(self._table).where(self._is_orphan(columns, table, references))
        return int(self._connection.execute(query).scalar_one())

    def examples(self, condition: Condition, columns: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """The columns of some rows that meet a condition."""
        return self._rows(sa.select(*(self._table.c[column] for column in columns)).where(condition).limit(limit))

    def surplus_examples(self, columns: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """Some combinations of values that are there more than once."""
        return self._rows(self._repeated(columns, *(self._table.c[column] for column in columns)).limit(limit))

    def orphan_examples(
        self, columns: Sequence[str], table: str, references: Sequence[str], shown: Sequence[str], limit: int
    ) -> list[dict[str, Any]]:
        """The columns *shown* of some rows that `count_orphans` counts."""
        return self.examples(self._is_orphan(columns, table, references), shown, limit)

    def _literal(self, column: str, value: Any) -> sa.ColumnElement[Any]:
        kind: sa.types.TypeEngine[Any]
        if isinstance(value, datetime):
            # A time without a zone is one of UTC.
            is_zoned = bool(getattr(self._table.c[column].type, "timezone", False))
            value = value.astimezone(UTC)
            value, kind = (value if is_zoned else value.replace(tzinfo=None)), sa.TIMESTAMP(timezone=is_zoned)
        else:
            kind = next(sql() for python, sql in PYTHON_TYPES if isinstance(value, python))
        return sa.literal(value, kind)

    def _microseconds(self, column: str) -> sa.ColumnElement[Any]:
        found = self._table.c[column]
        # Both dialects have a time `infinity`, which has no age.
        newest = sa.func.max(sa.case((sa.func.isfinite(found), found)))
        if self._dialect == "duckdb":
            return sa.func.epoch_us(newest)
        return sa.cast(sa.extract("epoch", newest) * 1_000_000, sa.BigInteger)

    def _present(self, columns: Sequence[str]) -> Condition:
        return sa.and_(*(~self.is_missing(column) for column in columns))

    def _repeated(self, columns: Sequence[str], *shown: sa.ColumnElement[Any]) -> sa.Select[Any]:
        keys = [self._table.c[column] for column in columns]
        return sa.select(*shown).where(self._present(columns)).group_by(*keys).having(sa.func.count() > 1)

    def _is_orphan(self, columns: Sequence[str], table: str, references: Sequence[str]) -> Condition:
        other = read_table(self._connection, table).alias("referenced")
        if unknown := [each for each in references if each not in other.c]:
            raise WarehouseError(
                f"{table} has no column {', '.join(unknown)}, which a foreign key leads to",
                remedy="Correct `references` of the expectation.",
            )
        same = [self._table.c[column] == other.c[each] for column, each in zip(columns, references, strict=True)]
        return self._present(columns) & ~sa.exists().where(*same).correlate(self._table)

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(query).mappings()]


# With types of their own: that of the column may be too narrow for what is compared with it.
PYTHON_TYPES: tuple[tuple[type, type[sa.types.TypeEngine[Any]]], ...] = (
    (bool, sa.Boolean),
    (int, sa.BigInteger),
    (float, sa.Double),
    (Decimal, sa.Numeric),
    (str, sa.Text),
    (date, sa.Date),
)


def read_table(connection: sa.Connection, table: str) -> sa.Table:
    """The table with the columns that it has.

    Raises:
        WarehouseError: when there is none.
    """
    schema, name = split_name(table)
    if not sa.inspect(connection).has_table(name, schema):
        raise WarehouseError(f"there is no table {table}", remedy="Ingest it first, or correct the name.")
    return sa.Table(name, sa.MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)


def _type_name(kind: sa.types.TypeEngine[Any]) -> str:
    return str(getattr(kind, "name", "")).upper()


def _family(kind: sa.types.TypeEngine[Any]) -> str:
    for name, classes in CLASSES:
        if isinstance(kind, classes):
            return name
    return FAMILIES.get(_type_name(kind), "")


def _is_missing(column: sa.Column[Any], dialect: str) -> Condition:
    kind = column.type
    is_float = isinstance(kind, sa.Float) or _type_name(kind) in FLOATS
    # Decimals of PostgreSQL have it, too; it is equal to itself there and in DuckDB.
    if is_float or (dialect == "postgresql" and isinstance(kind, sa.Numeric)):
        wanted: sa.types.TypeEngine[Any] = sa.Double() if is_float else sa.Numeric()
        return column.is_(None) | (column == sa.cast(sa.literal("NaN", sa.Text()), wanted))
    return column.is_(None)
