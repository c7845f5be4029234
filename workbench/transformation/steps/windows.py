"""Aggregates over windows of event time, the same in batch and on a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.transformation.steps.durations import Duration, as_interval, parse_duration
from workbench.transformation.steps.frames import (
    OWN,
    as_names,
    column,
    refuse,
    taken_columns,
    unknown_columns,
    with_watermark,
    wrong_duration,
    wrong_times,
)

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

WINDOW_START, WINDOW_END = "window_start", "window_end"
REMEDY = "Name columns of the frame, aggregates by name, and lengths such as '10 minutes'."


def aggregate_windows(
    frame: DataFrame,
    *,
    by: str,
    length: Duration,
    aggregates: Mapping[str, Column],
    key: str | Sequence[str] = (),
    slide: Duration | None = None,
    watermark: Duration | None = None,
) -> DataFrame:
    """One row for each key and window: the key, `window_start`, `window_end`, the aggregates.

    A window holds the rows with `window_start <= time < window_end`. Windows begin at multiples of
    their slide since 1970-01-01 UTC. Those without rows are not there; rows without a time are in none.

    Args:
        frame: the rows, or a stream.
        by: the event time.
        length: of a window.
        aggregates: what to compute, by the name of the column: `{"n": F.count("*")}`.
        key: columns to group by, too; nulls are one key.
        slide: how far apart windows begin; shorter than *length*, they overlap, and a row is in
            several. Left out, they follow each other.
        watermark: how late a row of a stream may be. In output mode `append` a window comes out
            when the watermark has passed its end. Batches have no late rows: it is ignored.

    Raises:
        StepRefused: for columns that are not there, a slide longer than the window, which would
            leave rows out, and a stream without a watermark.

    Example:
        >>> frame.transform(aggregate_windows, by="at", length="1 hour", key="sensor",
        ...                 aggregates={"readings": F.count("*"), "mean": F.avg("value")}, watermark="10 minutes")
    """
    from pyspark.sql import functions as sf

    step = "aggregate_windows"
    problems = wrong_duration("length", length) + wrong_duration("slide", slide)
    if not problems and slide is not None and parse_duration(slide) > parse_duration(length):
        problems = [f"slide {slide} is longer than the window, {length}"]
    ready = _ready(
        step, frame, by=by, keys=as_names(key), aggregates=aggregates, watermark=watermark, problems=problems
    )
    every = as_interval(parse_duration(length))
    window = sf.window(column(by), every, every if slide is None else as_interval(parse_duration(slide)))
    return _aggregated(ready, as_names(key), window, aggregates)


def aggregate_sessions(
    frame: DataFrame,
    *,
    by: str,
    gap: Duration,
    aggregates: Mapping[str, Column],
    key: str | Sequence[str],
    watermark: Duration | None = None,
) -> DataFrame:
    """One row for each session of a key: the key, `window_start`, `window_end`, the aggregates.

    `window_end` is the time of the last row plus *gap*. On a stream only output mode `append` gives
    sessions: each comes out once, when the watermark has passed its end.

    Args:
        frame: the rows, or a stream.
        by: the event time.
        gap: the longest pause within a session.
        aggregates: what to compute, by the name of the column.
        key: columns that say whose session it is.
        watermark: how late a row of a stream may be.

    Raises:
        StepRefused: for columns that are not there, and a stream without a watermark.

    Example:
        >>> clicks.transform(aggregate_sessions, by="clicked_at", gap="30 minutes", key="user_id",
        ...                  aggregates={"clicks": F.count("*")}, watermark="1 hour")
    """
    from pyspark.sql import functions as sf

    step, problems = "aggregate_sessions", wrong_duration("gap", gap)
    problems += [] if as_names(key) else ["`key` names no column"]
    ready = _ready(
        step, frame, by=by, keys=as_names(key), aggregates=aggregates, watermark=watermark, problems=problems
    )
    return _aggregated(
        ready, as_names(key), sf.session_window(column(by), as_interval(parse_duration(gap))), aggregates
    )


def _ready(
    step: str,
    frame: DataFrame,
    *,
    by: str,
    keys: Sequence[str],
    aggregates: Mapping[str, Column],
    watermark: Duration | None,
    problems: list[str],
) -> DataFrame:
    found = unknown_columns(frame, [*keys, by]) + wrong_times(frame, [by]) + problems
    found += wrong_duration("watermark", watermark) + taken_columns(keys, [WINDOW_START, WINDOW_END, *aggregates])
    found += [] if aggregates else ["`aggregates` is empty"]
    refuse(step, found, remedy=REMEDY)
    return with_watermark(step, frame, by, watermark)


def _aggregated(frame: DataFrame, keys: Sequence[str], window: Column, aggregates: Mapping[str, Column]) -> DataFrame:
    from pyspark.sql import functions as sf

    name = f"{OWN}window"
    groups = frame.groupBy(*(column(each) for each in keys), window.alias(name))
    return groups.agg(*(value.alias(each) for each, value in aggregates.items())).select(
        *(column(each) for each in keys),
        sf.col(f"{name}.start").alias(WINDOW_START),
        sf.col(f"{name}.end").alias(WINDOW_END),
        *(column(each) for each in aggregates),
    )
