"""One row for each key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from workbench.transformation.steps.durations import Duration
from workbench.transformation.steps.frames import (
    OWN,
    as_names,
    column,
    comparable,
    refuse,
    refuse_stream,
    unknown_columns,
    with_watermark,
    wrong_duration,
    wrong_times,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def dedupe(
    frame: DataFrame,
    *,
    key: str | Sequence[str],
    by: str | Sequence[str],
    keep: Literal["latest", "earliest"] = "latest",
) -> DataFrame:
    """The latest or earliest row of each key. For frames that are no streams.

    Rows that are equal in *by* are told apart by their other columns, so that the result depends
    on the rows alone, not on their order or partitions. Nulls in *key* are one key. A row without
    a time is kept only where its key has no row with one.

    Args:
        frame: the rows.
        key: columns that identify what a row is about.
        by: the time, or several columns that count one after the other: `["event_time", "offset"]`.
        keep: which one.

    Raises:
        StepRefused: for columns that are not there, and for a stream.

    Example:
        >>> orders.transform(dedupe, key=["order_id"], by="event_time")
    """
    from pyspark.sql import Window

    keys, times = as_names(key), as_names(by)
    problems = unknown_columns(frame, [*keys, *times])
    problems += [] if keys and times else ["`key` or `by` names no column"]
    refuse("dedupe", problems, remedy="Name columns of the frame.")
    refuse_stream(
        "dedupe",
        frame,
        "which row is the latest is known at its end only",
        remedy="Use dedupe_stream: it keeps the first that comes.",
    )
    rest = [field for field in frame.schema.fields if field.name not in (*keys, *times)]
    values = [column(name) for name in times] + [comparable(column(field.name), field.dataType) for field in rest]
    order = [value.desc_nulls_last() if keep == "latest" else value.asc_nulls_last() for value in values]
    window = Window.partitionBy(*(column(name) for name in keys)).orderBy(*order)
    return _first_of(frame, window)


def _first_of(frame: DataFrame, window: object) -> DataFrame:
    from pyspark.sql import functions as sf

    # Spark turns this filter into WindowGroupLimit: each task keeps one row of a key before the shuffle.
    return (
        frame.withColumn(f"{OWN}rank", sf.row_number().over(window)).where(sf.col(f"{OWN}rank") == 1).drop(f"{OWN}rank")
    )


def dedupe_stream(
    frame: DataFrame, *, key: str | Sequence[str], by: str, watermark: Duration | None = None
) -> DataFrame:
    """The first row of each key that comes; repeats within the watermark are dropped. For streams.

    Args:
        frame: a stream.
        key: columns that identify a row: those that repeat when it is sent twice.
        by: the event time. Rows older than the watermark are dropped.
        watermark: how far apart repeats may be in event time; Spark remembers keys for that long.
            Left out when the stream has a watermark.

    Raises:
        StepRefused: for columns that are not there, a stream without a watermark, and a frame
            that is no stream.

    Example:
        >>> stream.transform(dedupe_stream, key="event_id", by="event_time", watermark="1 hour")
    """
    step, keys = "dedupe_stream", as_names(key)
    problems = unknown_columns(frame, [*keys, by]) + wrong_times(frame, [by]) + wrong_duration("watermark", watermark)
    problems += [] if keys else ["`key` names no column"]
    problems += [] if frame.isStreaming else ["the frame is no stream, so that no row comes first"]
    refuse(step, problems, remedy="Name columns of a stream; use dedupe for a frame that is none.")
    return with_watermark(step, frame, by, watermark).dropDuplicatesWithinWatermark(list(keys))
