"""What a type of PostgreSQL is in Spark, and what a type of Spark is in PostgreSQL. Exact, or an error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from workbench.errors import WarehouseError

LONGEST_DECIMAL = 38
# Type of PostgreSQL, by its name in pg_type: what Spark has for it.
SPARK_TYPES = {
    "bool": "boolean",
    "int2": "smallint",
    "int4": "int",
    "int8": "bigint",
    "float4": "float",
    "float8": "double",
    "text": "string",
    "varchar": "string",
    "bpchar": "string",
    "name": "string",
    "bytea": "binary",
    "date": "date",
    "timestamptz": "timestamp",
    "timestamp": "timestamp_ntz",
}
AS_TEXT = {"json", "jsonb", "uuid", "citext"}  # read as what PostgreSQL writes for them
WRITTEN = {
    "boolean": "boolean",
    "tinyint": "smallint",
    "smallint": "smallint",
    "int": "integer",
    "bigint": "bigint",
    "float": "real",
    "double": "double precision",
    "string": "text",
    "binary": "bytea",
    "date": "date",
    "timestamp": "timestamp with time zone",
    "timestamp_ntz": "timestamp without time zone",
}
WHOLE_NUMBERS = {"smallint": 5, "integer": 10, "bigint": 19}  # digits
_NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)")
_TEXTS = re.compile(r"text|character varying(\(\d+\))?|character(\(\d+\))?|name|citext")
_CAST_FROM_TEXT = {"json", "jsonb", "uuid"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table or a query as PostgreSQL describes it."""

    name: str
    kind: str  #: name in pg_type; of an array that of its elements
    is_array: bool = False
    is_enum: bool = False
    precision: int | None = None
    scale: int | None = None


@dataclass(frozen=True)
class Field:
    """A column of a frame: its name, its type in Spark and in PostgreSQL."""

    name: str
    spark: str
    sql: str


def read_type(column: Column) -> str:
    """The Spark type of a column; empty when there is none."""
    if column.kind == "numeric":
        found = _decimal(column)
    elif column.is_enum or column.kind in AS_TEXT:
        found = "string"
    else:
        found = SPARK_TYPES.get(column.kind, "")
    return f"array<{found}>" if found and column.is_array else found


def read_schema(columns: Iterable[Column], what: str) -> str:
    """The schema of a read as DDL of Spark.

    Raises:
        WarehouseError: naming every column that Spark has no type for.
    """
    columns = tuple(columns)
    wrong = [f"{column.name} is {_told(column)}" for column in columns if not read_type(column)]
    if wrong:
        raise WarehouseError(
            f"Spark has no exact type for columns of {what}: {'; '.join(wrong)}",
            remedy="Read a query that casts them, such as SELECT amount::numeric(20,4), or name the other ones in `columns`.",
        )
    return ", ".join(f"{_quoted(column.name)} {read_type(column)}" for column in columns)


def write_fields(columns: Iterable[tuple[str, str]]) -> tuple[Field, ...]:
    """The columns of a frame, of names and Spark's simple types, with their types in PostgreSQL.

    Raises:
        WarehouseError: naming every column that PostgreSQL has no exact type for.
    """
    found = [Field(name, kind, _written(kind)) for name, kind in columns]
    wrong = [f"{field.name} is {field.spark}" for field in found if not field.sql]
    twice = sorted({each.name for each in found if sum(each.name == other.name for other in found) > 1})
    problems = [f"the warehouse has no exact type for columns of the frame: {'; '.join(wrong)}"] if wrong else []
    if twice:
        problems.append(f"the frame has more than one column {', '.join(twice)}")
    if problems or not found:
        raise WarehouseError(
            "; ".join(problems) or "the frame has no columns",
            remedy="Cast, rename or drop them; `to_json(column)` makes text of a struct, a map or an array of arrays.",
        )
    return tuple(found)


def misfit(field: Field, found: str, *, is_enum: bool = False) -> str:
    """Why the values of a frame's column do not fit a column of the type *found*; empty when they do."""
    if found == field.sql or cast_of(field, found, is_enum=is_enum) or _is_wider(found, field.sql):
        return ""
    return f"column {field.name} is {found}, not {field.sql}"


def cast_of(field: Field, found: str, *, is_enum: bool = False) -> str:
    """The cast that text needs for a column of JSON, an enumeration and their like; else empty."""
    return found if field.sql == "text" and (found in _CAST_FROM_TEXT or is_enum) else ""


def _is_wider(found: str, than: str) -> bool:
    if than == "text":
        return _TEXTS.fullmatch(found) is not None  # a text that is too long is refused when it comes
    if found == "double precision":
        return than in {"real", "smallint", "integer"}
    if found in WHOLE_NUMBERS:
        return WHOLE_NUMBERS[found] > WHOLE_NUMBERS.get(than, 99)
    digits, places = _digits(than)
    wide, wide_places = _digits(found)
    return bool(digits + places) and (found == "numeric" or (wide >= digits and wide_places >= places))


def _digits(sql: str) -> tuple[int, int]:
    """Digits before and after the point; none of either when it is no exact number."""
    if sql in WHOLE_NUMBERS:
        return WHOLE_NUMBERS[sql], 0
    match = _NUMERIC.fullmatch(sql)
    return (int(match[1]) - int(match[2]), int(match[2])) if match else (0, 0)


def _decimal(column: Column) -> str:
    precision, scale = column.precision, column.scale or 0
    if precision is None or not precision <= LONGEST_DECIMAL or not 0 <= scale <= precision:
        return ""
    return f"decimal({precision},{scale})"


def _written(kind: str) -> str:
    if kind.startswith("array<"):
        inner = kind.removeprefix("array<").removesuffix(">")
        found = "" if inner.startswith("array<") else _written(inner)
        return f"{found}[]" if found else ""
    if kind.startswith("decimal("):
        return f"numeric({kind.removeprefix('decimal(')}"
    if kind.startswith(("varchar(", "char(")):
        return "text"
    # `string collate X` is a string.
    return WRITTEN["string"] if kind.startswith("string ") else WRITTEN.get(kind, "")


def _told(column: Column) -> str:
    if column.kind == "numeric":
        bounds = "" if column.precision is None else f"({column.precision},{column.scale or 0})"
        known = f"numeric{bounds}" + (" without precision" if column.precision is None else "")
    else:
        known = column.kind
    return f"an array of {known}" if column.is_array else known


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
