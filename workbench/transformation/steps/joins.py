"""Joins that neither multiply rows nor look into the future."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Literal

from workbench.transformation.steps.durations import Duration, microseconds, parse_duration
from workbench.transformation.steps.frames import (
    OWN,
    as_names,
    column,
    comparable,
    failing,
    field_of,
    micros,
    refuse,
    refuse_stream,
    taken_columns,
    unknown_columns,
    wrong_duration,
    wrong_times,
)

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructField

TIME, SIDE, LEFT, RIGHT, ROW = (f"{OWN}{name}" for name in ("time", "side", "left", "right", "row"))


def join_as_of(
    left: DataFrame,
    right: DataFrame,
    *,
    by: str,
    right_by: str | None = None,
    key: str | Sequence[str] = (),
    prefix: str = "",
    tolerance: Duration | None = None,
    exact: bool = True,
) -> DataFrame:
    """Each row of *left* with the last row of *right* at or before its time, else with nulls.

    Rows of *left* neither multiply nor vanish. No row of *right* that is later counts, so that a
    model which learns from the result sees what was known then. Of several rows of *right* at one
    time the one with the greatest values is taken, column by column. Rows of *right* without a time
    or with a null in the key match nothing; those of *left* stay, with nulls.

    Both sides are sorted together by key and time, so that the work grows with the rows of both,
    not with their product. All rows of one key are sorted in one task; without a key, all rows are.

    Args:
        left: the rows to keep.
        right: what was known when.
        by: the time of *left*.
        right_by: the time of *right*, when it has another name.
        key: columns of both that have to be equal.
        prefix: begins the names of the columns of *right*, its time included.
        tolerance: how old the row of *right* may be.
        exact: whether a row of *right* at the very time of the left row counts.

    Raises:
        StepRefused: for columns that are not there, differ in type or would be there twice, and streams.

    Example:
        >>> trades.transform(join_as_of, quotes, by="at", key="symbol", prefix="quote_", tolerance="5 seconds")
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as sf

    keys, then = as_names(key), right_by or by
    added = [field for field in right.schema.fields if field.name not in keys]
    names = [prefix + field.name for field in added]
    _check_as_of(left, right, by=by, then=then, keys=keys, added=names, tolerance=tolerance)
    # At one time the side with rank 0 comes first: with `exact` what is known, else who asks.
    mine = _side(left, keys, by, rank=int(exact), row=LEFT, columns=left.schema.fields, other=added)
    known = right.where(_all(column(name).isNotNull() for name in (*keys, then)))
    theirs = _side(known, keys, then, rank=int(not exact), row=RIGHT, columns=added, other=left.schema.fields)
    ties = [comparable(sf.col(RIGHT).getField(field.name), field.dataType) for field in added]
    of_key = Window.partitionBy(*(column(name) for name in keys))
    until_here = of_key.orderBy(TIME, SIDE, *ties).rowsBetween(Window.unboundedPreceding, Window.currentRow)
    found = sf.last(RIGHT, ignorenulls=True).over(until_here)
    rows = mine.unionByName(theirs).withColumn(ROW, found).where(sf.col(LEFT).isNotNull())
    match, old = sf.col(ROW), sf.lit(True)
    if tolerance is not None:
        old = micros(sf.col(TIME)) - micros(match.getField(then)) <= microseconds(parse_duration(tolerance))
    return rows.select(
        *(sf.col(LEFT).getField(name).alias(name) for name in left.columns),
        *(sf.when(old, match.getField(field.name)).alias(prefix + field.name) for field in added),
    )


def _side(
    frame: DataFrame,
    keys: Sequence[str],
    time: str,
    *,
    rank: int,
    row: str,
    columns: Sequence[StructField],
    other: Sequence[StructField],
) -> DataFrame:
    """The rows of one side, packed: a null in a row of the right side must not pass for no row."""
    from pyspark.sql import functions as sf
    from pyspark.sql.types import StructType

    return frame.select(
        *(column(name) for name in keys),
        column(time).alias(TIME),
        sf.lit(rank).alias(SIDE),
        sf.struct(*(column(field.name) for field in columns)).alias(row),
        sf.lit(None).cast(StructType(list(other))).alias(RIGHT if row == LEFT else LEFT),
    )


def _check_as_of(
    left: DataFrame,
    right: DataFrame,
    *,
    by: str,
    then: str,
    keys: Sequence[str],
    added: Sequence[str],
    tolerance: Duration | None,
) -> None:
    step = "join_as_of"
    problems = unknown_columns(left, [*keys, by], "the left frame")
    problems += unknown_columns(right, [*keys, then], "the right frame")
    problems += wrong_times(left, [by], "the left frame") + wrong_times(right, [then], "the right frame")
    problems += wrong_duration("tolerance", tolerance, least=timedelta())
    problems += [f"{then} is in `key` and the time of the right frame"] if then in keys else []
    refuse(step, problems, remedy="Name columns that are there, and a tolerance such as '10 minutes'.")
    for mine, theirs in [*((name, name) for name in keys), (by, then)]:
        kinds = [field_of(left, mine).dataType.simpleString(), field_of(right, theirs).dataType.simpleString()]
        if kinds[0] != kinds[1]:
            problems.append(f"{mine} is {kinds[0]} on the left and {theirs} {kinds[1]} on the right")
    refuse(step, problems, remedy="Cast one of them, with `conform`.")
    refuse(step, taken_columns(left.columns, added), remedy="Give a `prefix` for the columns of the right frame.")
    for frame in (left, right):
        refuse_stream(
            step, frame, "a row that comes late may be the one to take", remedy="Call it in foreachBatch, or on tables."
        )


def enrich(
    frame: DataFrame,
    table: DataFrame,
    *,
    key: str | Sequence[str] | Mapping[str, str],
    columns: Sequence[str] | None = None,
    prefix: str = "",
    unmatched: Literal["keep", "drop", "fail"] = "keep",
    broadcast: bool = True,
) -> DataFrame:
    """Each row with the columns of the one row of *table* that has its key. Works on streams.

    Rows never multiply: a key that *table* has twice ends the query, because which of its rows is
    meant cannot be known. A null in the key matches nothing. For a stream the table is read anew
    in every micro-batch.

    Args:
        frame: the rows, or a stream.
        table: a small table, such as `workbench.load_table("dw.airports")`.
        key: columns of both; or the table's column by the frame's: `{"origin": "code"}`.
        columns: which to add; all that are not in *key* when left out.
        prefix: begins the names of added columns.
        unmatched: `keep` rows without a match, with nulls; `drop` them; or `fail` the query, when
            added columns are computed.
        broadcast: send the table to every executor, without a shuffle of the frame. It has to
            fit into their memory.

    Raises:
        StepRefused: for columns that are not there or would be there twice, and for a table that
            is a stream.

    Example:
        >>> airports = workbench.load_table("dw.airports")
        >>> flights.transform(enrich, airports, key={"origin": "code"}, columns=["city"], prefix="origin_")
    """
    from pyspark.sql import functions as sf

    keys = dict(key) if isinstance(key, Mapping) else {name: name for name in as_names(key)}
    added = [name for name in table.columns if name not in keys.values()] if columns is None else list(columns)
    _check_enrich(frame, table, keys, added, [prefix + name for name in added])
    unique = _unique(table, list(keys.values()), added)
    same = _all(column(mine) == sf.col(f"{OWN}key{n}") for n, mine in enumerate(keys))
    joined = frame.join(sf.broadcast(unique) if broadcast else unique, same, "inner" if unmatched == "drop" else "left")
    row = sf.col(ROW)
    if unmatched == "fail":
        row = sf.coalesce(row, failing(f"enrich: a row has no match for its {', '.join(keys)}"))
    return joined.select(
        *(column(name) for name in frame.columns), *(row.getField(name).alias(prefix + name) for name in added)
    )


def _unique(table: DataFrame, keys: Sequence[str], added: Sequence[str]) -> DataFrame:
    """Keys and rows of *table*. The check is part of the query: it looks at the very rows that are joined."""
    from pyspark.sql import functions as sf

    names = [f"{OWN}key{n}" for n in range(len(keys))]
    # With a field of its own the row is there even when no column is added.
    row = sf.struct(sf.lit(True).alias(f"{OWN}found"), *(column(name) for name in added))
    rows = table.where(_all(column(name).isNotNull() for name in keys)).select(
        *(column(key).alias(name) for key, name in zip(keys, names, strict=True)), row.alias(ROW)
    )
    told = f"enrich: the table has several rows for one {', '.join(keys)}; make it unique, with dedupe for one"
    counted = rows.groupBy(*names).agg(sf.count(sf.lit(1)).alias(SIDE), sf.first(ROW).alias(ROW))
    return counted.select(*names, sf.when(sf.col(SIDE) == 1, sf.col(ROW)).otherwise(failing(told)).alias(ROW))


def _check_enrich(
    frame: DataFrame, table: DataFrame, keys: Mapping[str, str], added: Sequence[str], names: Sequence[str]
) -> None:
    problems = unknown_columns(frame, keys) + unknown_columns(table, [*keys.values(), *added], "the table")
    problems += [] if keys else ["`key` names no column"]
    refuse("enrich", problems, remedy="Name columns that are there.")
    refuse("enrich", taken_columns(frame.columns, names), remedy="Give a `prefix` for the columns of the table.")
    refuse_stream("enrich", table, "it may get more rows for a key", remedy="Read the table as a batch.")


def _all(conditions: Iterable[Column]) -> Column:
    """Whether all hold."""
    return reduce(and_, conditions)
