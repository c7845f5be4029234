"""Sessions: rows of one key that follow each other without a long pause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.transformation.steps.durations import Duration, microseconds, parse_duration
from workbench.transformation.steps.frames import (
    OWN,
    as_names,
    column,
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

STEP = "sessionize"
SESSION_ID, SESSION_START = "session_id", "session_start"
ID_LENGTH = 32  # 128 bits in hexadecimal


def sessionize(frame: DataFrame, *, key: str | Sequence[str], by: str, gap: Duration) -> DataFrame:
    """All rows, with `session_id` and `session_start`. For frames that are no streams.

    A session of a key goes on as long as each row is at most *gap* later than the one before it,
    as in Spark's `session_window`. The id is computed from the key and the time of the first row: it
    is the same in every run, and stays when later rows come. It is no pseudonym: who can guess the
    key can compute it. Rows without a time have neither id nor start.

    Args:
        frame: the rows.
        key: columns that say whose session it is; nulls are one key.
        by: the event time.
        gap: the longest pause within a session, such as `30 minutes`.

    Raises:
        StepRefused: for columns that are not there or have the wrong type, and for a stream.

    Example:
        >>> clicks.transform(sessionize, key="user_id", by="clicked_at", gap="30 minutes")
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as sf

    keys = as_names(key)
    problems = unknown_columns(frame, [*keys, by]) + wrong_times(frame, [by]) + wrong_duration("gap", gap)
    problems += taken_columns(frame.columns, [SESSION_ID, SESSION_START])
    problems += [] if keys else ["`key` names no column"]
    refuse(STEP, problems, remedy="Name columns of the frame, and a gap such as '30 minutes'.")
    refuse_stream(STEP, frame, "a late row may join two sessions into one", remedy="Use aggregate_sessions.")

    time = column(by)
    # Both have the same partitions and order: one shuffle and one sort.
    rows = Window.partitionBy(*(column(name) for name in keys)).orderBy(time.asc_nulls_last())
    until_here = rows.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    pause = micros(time) - sf.lag(micros(time)).over(rows)
    begins = pause.isNull() | (pause > microseconds(parse_duration(gap)))
    start = sf.max(sf.when(sf.col(f"{OWN}begins"), time)).over(until_here)
    marked = frame.withColumn(f"{OWN}begins", begins).withColumn(SESSION_START, sf.when(time.isNotNull(), start))
    return marked.withColumn(SESSION_ID, _session_id(keys)).select(
        *(column(name) for name in frame.columns), SESSION_ID, SESSION_START
    )


def _session_id(keys: Sequence[str]) -> Column:
    from pyspark.sql import functions as sf

    # JSON keeps ("a", "bc") and ("ab", "c") apart; microseconds do not depend on the time zone.
    text = sf.to_json(sf.struct(*(column(name) for name in keys), micros(sf.col(SESSION_START)).alias(f"{OWN}start")))
    return sf.when(sf.col(SESSION_START).isNotNull(), sf.substring(sf.sha2(text, 256), 1, ID_LENGTH))
