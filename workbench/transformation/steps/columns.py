"""A frame made to fit a schema: columns chosen, renamed and cast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from workbench.transformation.steps.frames import column, failing, refuse, taken_columns, unknown_columns

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import DataType, StructField, StructType

STEP = "conform"


def conform(
    frame: DataFrame,
    schema: Mapping[str, str | DataType] | StructType,
    *,
    rename: Mapping[str, str] | None = None,
    invalid: Literal["fail", "null"] = "fail",
    extra: Literal["fail", "drop"] = "fail",
    missing: Literal["fail", "null"] = "fail",
) -> DataFrame:
    """The columns of *schema*, in its order and with its types. Works on streams.

    Args:
        frame: the rows.
        schema: type of each column, as in SQL: `{"id": "bigint", "paid": "decimal(10,2)"}`;
            or a StructType. A column that it calls not nullable fails the query on the first null.
        rename: new name of columns by their old name; before all else.
        invalid: a value that cannot be cast ends the query with the column's name, or becomes null,
            whether Spark's ANSI mode is on or not.
        extra: whether columns that are not in the schema are an error.
        missing: whether columns that are not in the frame are an error.

    Raises:
        StepRefused: with all columns that are missing, extra, or cannot be cast at all.

    Example:
        >>> frame.transform(conform, {"id": "bigint", "at": "timestamp"}, rename={"ts": "at"}, invalid="null")
    """
    renamed = _renamed(frame, rename or {})
    target = _target(frame, schema)
    _check_names(renamed, target, extra=extra, missing=missing)
    sources = {field.name: field for field in renamed.schema.fields}
    _check_structs(sources, target)
    return _selected(
        renamed,
        [
            _cast(field, sources[field.name], invalid) if field.name in sources else _absent(field)
            for field in target.fields
        ],
    )


def _renamed(frame: DataFrame, names: Mapping[str, str]) -> DataFrame:
    problems = unknown_columns(frame, names)
    problems += taken_columns([], [names.get(name, name) for name in frame.columns])
    refuse(STEP, problems, remedy="Correct `rename`: old name to new name.")
    return frame.select(*(column(name).alias(names.get(name, name)) for name in frame.columns)) if names else frame


def _target(frame: DataFrame, schema: Mapping[str, str | DataType] | StructType) -> StructType:
    """The schema with its types parsed by Spark, in one request."""
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as sf
    from pyspark.sql.types import StructType

    if isinstance(schema, StructType):
        return schema
    refuse(STEP, [] if schema else ["the schema has no columns"], remedy="Name the columns and their types.")
    try:
        empty = [sf.lit(None).cast(kind).alias(name) for name, kind in schema.items()]
        return frame.sparkSession.range(0).select(*empty).schema
    except PySparkException as error:
        told = f"the schema has a type that Spark does not know: {_first_line(error)}"
        refuse(STEP, [told], remedy="See spark.apache.org/docs/latest/sql-ref-datatypes.html, `SQL`.")
        raise


def _check_names(frame: DataFrame, target: StructType, *, extra: str, missing: str) -> None:
    wanted, here = target.names, frame.columns
    absent = [name for name in wanted if name not in here] if missing == "fail" else []
    unwanted = [name for name in here if name not in wanted] if extra == "fail" else []
    problems = [
        *([f"missing: {', '.join(absent)}"] if absent else []),
        *([f"not in the schema: {', '.join(unwanted)}"] if unwanted else []),
        *taken_columns([], wanted),
    ]
    refuse(STEP, problems, remedy="Use `rename`; or `missing='null'`, `extra='drop'` where the difference is meant.")


def _check_structs(sources: Mapping[str, StructField], target: StructType) -> None:
    """Spark casts structs by position: a cast that renames fields would put values into the wrong ones."""
    problems = [
        f"the fields of {field.name} are {_fields(sources[field.name].dataType)}, not {_fields(field.dataType)}"
        for field in target.fields
        if field.name in sources and _fields(sources[field.name].dataType) != _fields(field.dataType) != ""
    ]
    refuse(STEP, problems, remedy="Name the fields of structs as the frame does, in its order.")


def _fields(kind: Any) -> str:
    """The names of a type's fields, those of nested types in parentheses; nothing for types without."""
    if hasattr(kind, "fields"):
        return ", ".join(
            f"{field.name} ({inner})" if (inner := _fields(field.dataType)) else field.name for field in kind.fields
        )
    parts = [getattr(kind, each) for each in ("elementType", "keyType", "valueType") if hasattr(kind, each)]
    return ", ".join(filter(None, map(_fields, parts)))


def _cast(field: StructField, source: StructField, invalid: str) -> Column:
    from pyspark.sql import functions as sf

    value = column(field.name)
    if source.dataType != field.dataType:
        cast = value.try_cast(field.dataType)
        told = f"{STEP}: a value of {field.name} is no {field.dataType.simpleString()}"
        guard = sf.when(value.isNotNull(), failing(f"{told}; invalid='null' makes it null"))
        value = cast if invalid == "null" else sf.coalesce(cast, guard)
    if not field.nullable:
        value = sf.coalesce(
            value, failing(f"{STEP}: a value of {field.name} is null, and the schema does not allow it")
        )
    return value.alias(field.name)


def _absent(field: StructField) -> Column:
    from pyspark.sql import functions as sf

    value = sf.lit(None).cast(field.dataType)
    if not field.nullable:
        refuse(STEP, [f"missing and not nullable: {field.name}"], remedy="Add the column, or allow nulls.")
    return value.alias(field.name)


def _selected(frame: DataFrame, columns: Sequence[Column]) -> DataFrame:
    from pyspark.errors import AnalysisException

    try:
        result = frame.select(*columns)
        # Spark Connect looks at a plan only when it runs: asked for its schema, it does so now.
        result.schema  # noqa: B018
    except AnalysisException as error:
        refuse(STEP, [_first_line(error)], remedy="No value of the one type can be cast to the other.")
        raise
    return result


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:400]
