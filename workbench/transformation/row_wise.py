"""Whether steps look at each row by itself, and what columns they give.

A flow that Spark brings commits the offsets of a piece of records together with their rows. A step
that looks at other rows would give what depends on where a piece happens to end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workbench.errors import StepRefused
from workbench.loading import JSON, ORIGIN

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

Step = Callable[["DataFrame"], "DataFrame"]

REMEDY = (
    "Only steps that look at each row by itself go with engine: spark. "
    "For windows, sessions and duplicates use engine: stream (docs/streams.md)."
)
# Relations of Spark Connect (spark/connect/relations.proto) that give at most one row for each of theirs.
ROW_WISE = {
    *("project", "filter", "join", "subquery_alias", "to_df", "with_columns", "with_columns_renamed", "drop", "hint"),
    *("map_partitions", "to_schema", "fill_na", "drop_na", "replace", "repartition", "with_relations"),
    *("repartition_by_expression", "collect_metrics", "with_watermark"),
}
OVER = re.compile(r"\bover\s*\(", re.IGNORECASE)


def apply_steps(frame: DataFrame, steps: Sequence[Step]) -> DataFrame:
    """The frame after all steps, one after the other."""
    for step in steps:
        frame = frame.transform(step)
    return frame


def in_order(rows: DataFrame, others: DataFrame, extra: str, partitions: int) -> DataFrame:
    """Both frames by where their rows come from, each partition of the topic in one task, in the order of offsets.

    Args:
        rows: without the column *extra*.
        others: `_partition`, `_offset` and *extra*; each comes after the row of its offset.
        extra: a binary column.
        partitions: how many tasks.
    """
    from pyspark.sql import functions as sf

    both = rows.withColumn(extra, sf.lit(None).cast("binary")).unionByName(others, allowMissingColumns=True)
    ordered = both.repartition(partitions, "_partition")
    return ordered.sortWithinPartitions("_partition", "_offset", sf.col(extra).isNotNull())


def output_columns(session: SparkSession, columns: pa.Schema, steps: Sequence[Step]) -> pa.Schema:
    """The columns that *steps* make of *columns*; no rows are read.

    Args:
        session: of Spark Connect.
        columns: of the rows before the first step, `_partition` and `_offset` among them.
        steps: to be applied.

    Raises:
        StepRefused: when a step looks at more than one row, or drops where a row comes from.
    """
    from pyspark.sql.pandas.types import to_arrow_schema

    empty = session.createDataFrame([], spark_schema(columns))
    result = apply_steps(empty, steps)
    refuse_stateful(session, empty, result)
    found = to_arrow_schema(result.schema, timezone="UTC")
    for origin in ORIGIN:
        if origin.name not in found.names or found.field(origin.name).type != origin.type:
            raise StepRefused(
                f"the steps drop or change {origin.name}, which tells where a row comes from",
                remedy="Keep `_partition` (int) and `_offset` (bigint): name them in `select`, for one.",
            )
    names = [field.name for field in ORIGIN]
    return pa.schema([*(_restored(field, columns) for field in found if field.name not in names), *ORIGIN])


def spark_schema(columns: pa.Schema) -> StructType:
    """The same columns in Spark, where JSON is text."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(plain(columns))


def plain(columns: pa.Schema) -> pa.Schema:
    """The columns with JSON as the text that it is, and all of them nullable: Spark's types are no narrower."""
    return pa.schema([
        pa.field(field.name, pa.string() if field.type == JSON else field.type) for field in columns
    ])  # fmt: skip


def _restored(field: pa.Field, before: pa.Schema) -> pa.Field:
    """A column that was JSON and is text is JSON still."""
    was = before.field(field.name).type if field.name in before.names else None
    return pa.field(field.name, JSON if was == JSON and field.type == pa.string() else field.type)


def refuse_stateful(session: Any, source: DataFrame, result: DataFrame) -> None:
    """Refuse a plan in which a row of *result* depends on more than one row of *source*.

    Only what lies between the two is looked at: a table that is joined may be aggregated before.

    Raises:
        StepRefused: naming what Spark would do.
    """
    wanted = source._plan.plan(session.client).common.plan_id  # noqa: SLF001 - nothing public shows a plan of Connect
    found = list(_path(result._plan.plan(session.client), wanted))  # noqa: SLF001
    if not found:
        raise StepRefused("the steps give rows that do not come from the topic", remedy=REMEDY)
    for kind, relation in found:
        if kind not in ROW_WISE:
            raise StepRefused(f"a step needs more than one row: it has {kind!r} in its plan", remedy=REMEDY)
        if _has_window(relation):
            raise StepRefused("a step needs more than one row: it has a window function", remedy=REMEDY)


def _path(relation: Any, wanted: int) -> list[tuple[str, Any]]:
    """Kind and message of each relation from *relation* down to the one *wanted*; empty when it is not below."""
    if relation.common.plan_id == wanted:
        return [("project", relation)]
    kind = relation.WhichOneof("rel_type")
    for field, value in getattr(relation, kind).ListFields() if kind else ():
        if field.message_type is not None and field.message_type.name == "Relation":
            for each in _messages(value):
                if below := _path(each, wanted):
                    return [(kind, getattr(relation, kind)), *below]
    return []


def _has_window(message: Any) -> bool:
    """Whether an expression of this relation is a window function; relations below are not looked at."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.name == "Window" or (
            field.message_type.name == "ExpressionString" and OVER.search(value.expression)
        ):
            return True
        if field.message_type.name == "Relation":
            continue
        if any(_has_window(each) for each in _messages(value)):
            return True
    return False


def _messages(value: Any) -> list[Any]:
    """The messages of a field: of one, of a list or of a mapping."""
    if hasattr(value, "ListFields"):
        return [value]
    return [each for each in (value.values() if hasattr(value, "values") else value) if hasattr(each, "ListFields")]
