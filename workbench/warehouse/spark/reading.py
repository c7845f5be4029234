"""A table or a query to Arrow batches: planned on the driver, read by tasks through binary COPY."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.sections import WarehouseSettings
from workbench.warehouse.copy import KEEPALIVES, open_bulk, reported_bulk
from workbench.warehouse.engine import transaction
from workbench.warehouse.schema import quoted, split_name
from workbench.warehouse.spark.options import ReadOptions
from workbench.warehouse.spark.types import AS_TEXT, Column, read_schema

TID_RANGES_SINCE = 14  # PostgreSQL 14: ranges of ctid are read without looking at the rest of the table
KINDS = "SELECT oid, typname, typelem, typtype, typcategory FROM pg_type WHERE oid = ANY(:oids)"
# Days and microseconds since 1970 of what Spark can hold: years 1 to 9999.
DAYS = (-719_162, 2_932_896)
MICROSECONDS = (DAYS[0] * 86_400_000_000, (DAYS[1] + 1) * 86_400_000_000 - 1)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is read, in statements of one partition each."""

    columns: tuple[Column, ...]
    statements: tuple[str, ...]
    what: str  #: for messages


def plan_read(settings: WarehouseSettings, options: ReadOptions) -> Plan:
    """Ask the warehouse for the columns, and split a table into ranges of blocks.

    Raises:
        WarehouseError: when there is no such table, the query is refused, or a column has no type in Spark.
    """
    require_postgresql(settings)
    what = options.table or "the query"
    with transaction(settings) as connection:
        source = _source(connection, options)
        columns = _describe(connection, source)
        ranges = _ranges(connection, options)
    chosen = _chosen(columns, options)
    read_schema(chosen, what)
    names = ", ".join(map(_expression, chosen))
    return Plan(
        columns=chosen,
        statements=tuple(f"SELECT {names} FROM ({source}{condition}) AS source" for condition in ranges),
        what=what,
    )


def require_postgresql(settings: WarehouseSettings) -> None:
    """Refuse a warehouse of another dialect.

    Raises:
        WarehouseError: with what to use in its place.
    """
    if settings.dialect != "postgresql":
        raise WarehouseError(
            f"Spark reads and writes tables of PostgreSQL, not of {settings.dialect}",
            remedy="Use `workbench.sql`, or a PostgreSQL warehouse (WORKBENCH_WAREHOUSE_DIALECT=postgresql).",
        )


def read_batches(settings: WarehouseSettings, plan: Plan, number: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of one statement of *plan*, of one snapshot, in the types of *schema*.

    Raises:
        WarehouseError: when the warehouse refuses, or a value is none that Spark can hold.
    """
    with reported_bulk(settings), closing(open_bulk(settings, limits=KEEPALIVES)) as bulk, bulk.cursor() as cursor:
        cursor.execute(plan.statements[number])
        for batch in cursor.fetch_record_batch():
            arrays = [_fitted(array, field, plan.what) for array, field in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _source(connection: sa.Connection, options: ReadOptions) -> str:
    """The SELECT that is read, with its values in it."""
    if options.query:
        return _with_values(connection, options.query, options.parameters)
    where = _with_values(connection, options.where, options.parameters) if options.where else "TRUE"
    return f"SELECT * FROM {quoted(*split_name(options.table))} WHERE ({where})"


def _with_values(connection: sa.Connection, statement: str, parameters: Mapping[str, object]) -> str:
    """The statement with each `:name` as a literal that psycopg has quoted: COPY takes no parameters."""
    if not parameters:
        return statement
    from psycopg import ClientCursor

    text = sa.text(statement)
    names = set(text.compile().params)
    if missing := sorted(names - set(parameters)):
        raise WarehouseError(
            f"the query has :{missing[0]}, which has no value", remedy="Give a value for each :name in `parameters`."
        )
    driver: Any = connection.connection.driver_connection
    return ClientCursor(driver).mogrify(str(text.compile(dialect=connection.dialect)), dict(parameters))


def _describe(connection: sa.Connection, source: str) -> tuple[Column, ...]:
    # Without SQLAlchemy's text(): a colon is a colon, and psycopg without parameters leaves % alone.
    driver: Any = connection.connection.driver_connection
    found = _executed(connection, driver, f"SELECT * FROM ({source}) AS source LIMIT 0")
    kinds = {row.oid: row for row in connection.execute(sa.text(KINDS), {"oids": [each.type_code for each in found]})}
    elements = [row.typelem for row in kinds.values() if row.typcategory == "A"]
    kinds |= {row.oid: row for row in connection.execute(sa.text(KINDS), {"oids": elements})}
    return tuple(_column(each, kinds) for each in found)


def _executed(connection: sa.Connection, driver: Any, statement: str) -> Any:
    from psycopg import Error

    try:
        with driver.cursor() as cursor:
            cursor.execute(statement)
            return cursor.description
    except Error as error:
        raise WarehouseError(
            f"the warehouse refused the query: {str(error).strip()}", remedy="Correct the query, the table or `where`."
        ) from None


def _column(found: Any, kinds: Mapping[int, Any]) -> Column:
    kind = kinds[found.type_code]
    is_array = kind.typcategory == "A"
    inner = kinds[kind.typelem] if is_array else kind
    precision, scale = found.precision, found.scale
    return Column(
        name=found.name,
        kind=inner.typname,
        is_array=is_array,
        is_enum=inner.typtype == "e",
        precision=precision,
        scale=scale,
    )


def _chosen(columns: tuple[Column, ...], options: ReadOptions) -> tuple[Column, ...]:
    by_name = {column.name: column for column in columns}
    if missing := [name for name in options.columns if name not in by_name]:
        raise WarehouseError(
            f"{options.table} has no column {', '.join(missing)}", remedy=f"Its columns are {', '.join(by_name)}."
        )
    return tuple(by_name[name] for name in options.columns) if options.columns else columns


def _expression(column: Column) -> str:
    name = quoted(column.name)
    if column.is_array:
        told = column.name.replace("'", "''")
        # COPY gives the elements of all dimensions in one list: the cast fails, and says why.
        checked = (
            f"CASE WHEN array_ndims({name}) > 1 "
            f"THEN ('column {told} has arrays of ' || array_ndims({name}) || ' dimensions')::int END IS NULL"
        )
        cast = "::text[]" if column.is_enum or column.kind in AS_TEXT else ""
        return f"CASE WHEN {checked} THEN {name}{cast} END AS {name}"
    return f"{name}::text AS {name}" if column.is_enum or column.kind in AS_TEXT else name


def _ranges(connection: sa.Connection, options: ReadOptions) -> tuple[str, ...]:
    """Conditions that split the table's blocks; the last has no end, so that rows which come now are read."""
    if options.partitions == 1:
        return ("",)
    found = connection.execute(
        sa.text(
            "SELECT relkind, pg_relation_size(oid) / current_setting('block_size')::int AS blocks, "
            "current_setting('server_version_num')::int / 10000 AS version FROM pg_class WHERE oid = CAST(:name AS regclass)"
        ),
        {"name": quoted(*split_name(options.table))},
    ).one()
    if found.relkind not in {"r", "m"} or found.version < TID_RANGES_SINCE:
        return ("",)
    count = max(1, min(options.partitions, found.blocks))
    bounds = [found.blocks * number // count for number in range(count)]
    starts = [f" AND ctid >= '({bound},0)'::tid" if bound else "" for bound in bounds]
    ends = [f" AND ctid < '({bound},0)'::tid" for bound in bounds[1:]] + [""]
    return tuple(start + end for start, end in zip(starts, ends, strict=True))


def _fitted(array: pa.Array, field: pa.Field, what: str) -> pa.Array:
    """The array in Spark's type; what cannot be one is an error that names the column."""
    array = _plain(array)
    _refuse_unknown_times(array.flatten() if pa.types.is_list(array.type) else array, field, what)
    if array.type == field.type:
        return array
    try:
        return array.cast(field.type)
    except pa.ArrowInvalid as error:
        raise WarehouseError(
            f"column {field.name} of {what} has a value that Spark's {field.type} cannot hold: {error}",
            remedy="Read a query that casts or filters it; NaN of numeric, for one, has no counterpart in Spark.",
        ) from None


def _plain(array: pa.Array) -> pa.Array:
    """The array without Arrow's extension types, which are ADBC's notes of what PostgreSQL called it."""
    if isinstance(array.type, pa.BaseExtensionType):
        return array.storage
    if pa.types.is_list(array.type) and isinstance(array.type.value_type, pa.BaseExtensionType):
        return pa.ListArray.from_arrays(array.offsets, array.values.storage, mask=array.is_null())
    return array


def _refuse_unknown_times(array: pa.Array, field: pa.Field, what: str) -> None:
    if pa.types.is_date32(array.type):
        numbers, bounds = array.view(pa.int32()), DAYS
    elif pa.types.is_timestamp(array.type):
        numbers, bounds = array.view(pa.int64()), MICROSECONDS
    else:
        return
    found = pc.min_max(numbers)
    least, most = found["min"].as_py(), found["max"].as_py()
    if least is not None and (least < bounds[0] or most > bounds[1]):
        raise WarehouseError(
            f"column {field.name} of {what} has infinity, or a year before 1 or after 9999, which Spark cannot hold",
            remedy=f"Read a query that replaces it, such as SELECT nullif({field.name}, 'infinity') AS {field.name}.",
        )
