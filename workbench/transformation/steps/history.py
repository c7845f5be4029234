"""Slowly changing dimensions of type 2: every version of a row, with the time it was valid.

The versions of a key are a step function of time. History and changes are its events; sorted, and
freed of those that change nothing, they are the history again. Hence a late change finds its place,
and a batch that is applied twice gives what it gave once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.transformation.steps.frames import (
    OWN,
    as_names,
    column,
    comparable,
    failing,
    field_of,
    refuse,
    refuse_stream,
    taken_columns,
    unknown_columns,
    wrong_times,
)

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructField

STEP = "update_history"
VALID_FROM, VALID_TO, IS_CURRENT = "valid_from", "valid_to", "is_current"
TIME, RANK, STATE, NEXT, BEFORE = (f"{OWN}{name}" for name in ("time", "rank", "state", "next", "before"))
LIVE = "live"  # the first field of a state: whether there is a row at all
# At one instant a change beats the version that begins there, and that the end of the one before.
ENDS, BEGINS, CHANGES = 0, 1, 2


def update_history(
    changes: DataFrame,
    history: DataFrame | None = None,
    *,
    key: str | Sequence[str],
    by: str,
    deleted: str | None = None,
) -> DataFrame:
    """The whole history after *changes*: key, values, `valid_from`, `valid_to`, `is_current`.

    A version is valid while `valid_from <= time < valid_to`; `valid_to` of the current one is null.
    For each key no two overlap and at most one is current. A change that says what is so already
    makes no version. A late change is put where it belongs. A change at the very time at which a
    version begins replaces it; of several changes at one time, the one with the greatest values
    counts, and a deletion least. Applied twice, the same changes give the same history.

    What changed nothing when it was applied is forgotten, the deletion of a key that was not there
    included: it does not limit a change that comes later for a time before it. Where that matters,
    make the history from all changes at once.

    Args:
        changes: all columns that are not *key*, *by* or *deleted* are values.
        history: what this function returned before; None in the beginning.
        key: columns that identify what is described. A null in them ends the query.
        by: since when the change holds. A null in it ends the query.
        deleted: a boolean column, true where the change is a deletion; null is false.

    Raises:
        StepRefused: for columns that are not there, a history with other columns or types, and streams.

    Example:
        >>> old = workbench.load_table("dw.customers")
        >>> new = changes.transform(update_history, old, key="customer_id", by="changed_at", deleted="gone")
        >>> workbench.save_table(new, "dw.customers")
    """
    keys = as_names(key)
    others = {*keys, by, *([deleted] if deleted else [])}
    values = [field for field in changes.schema.fields if field.name not in others]
    _check(changes, keys, by, deleted, values)
    events = _changes(changes, keys, by, deleted, values)
    if history is not None:
        _check_history(history, changes, keys, by, values)
        events = events.unionAll(_versions(history, keys, values)).unionAll(_ends(history, keys, values))
    return _history(events, keys, values)


def _check(
    changes: DataFrame, keys: Sequence[str], by: str, deleted: str | None, values: Sequence[StructField]
) -> None:
    problems = unknown_columns(changes, [*keys, by, *([deleted] if deleted else [])])
    problems += [] if keys else ["`key` names no column"]
    problems += wrong_times(changes, [by])
    problems += taken_columns([*keys, *(field.name for field in values)], [VALID_FROM, VALID_TO, IS_CURRENT])
    if deleted in changes.columns and (kind := field_of(changes, str(deleted)).dataType.simpleString()) != "boolean":
        problems.append(f"column {deleted} is {kind}, not boolean")
    refuse(STEP, problems, remedy="Name columns of the changes; rename those that the history adds itself.")
    refuse_stream(STEP, changes, "a history is made anew from all its rows", remedy="Call it in foreachBatch.")


def _check_history(
    history: DataFrame, changes: DataFrame, keys: Sequence[str], by: str, values: Sequence[StructField]
) -> None:
    refuse_stream(STEP, history, "a history is made anew from all its rows", remedy="Read the table as a batch.")
    time = field_of(changes, by).dataType.simpleString()
    wanted = {name: field_of(changes, name).dataType.simpleString() for name in keys}
    wanted |= {field.name: field.dataType.simpleString() for field in values}
    wanted |= {VALID_FROM: time, VALID_TO: time, IS_CURRENT: "boolean"}
    here = {field.name: field.dataType.simpleString() for field in history.schema.fields}
    problems = [
        *(f"the history lacks {name} ({kind})" for name, kind in wanted.items() if name not in here),
        *(f"the changes lack {name} ({kind})" for name, kind in here.items() if name not in wanted),
        *(
            f"{name} is {here[name]} in the history, not {kind}"
            for name, kind in wanted.items()
            if here.get(name, kind) != kind
        ),
        *unknown_columns(history, [name for name in wanted if name in here], "the history"),
    ]
    refuse(STEP, problems, remedy="Bring both to the same columns and types with `conform`.")


def _event(
    rows: DataFrame, keys: Sequence[Column], time: Column, *, rank: int, live: Column, values: Sequence[Column]
) -> DataFrame:
    from pyspark.sql import functions as sf

    return rows.select(
        *keys, time.alias(TIME), sf.lit(rank).alias(RANK), sf.struct(live.alias(LIVE), *values).alias(STATE)
    )


def _changes(
    changes: DataFrame, keys: Sequence[str], by: str, deleted: str | None, values: Sequence[StructField]
) -> DataFrame:
    from pyspark.sql import functions as sf

    def required(name: str) -> Column:
        return sf.coalesce(column(name), failing(f"{STEP}: {name} of a change is null; filter such changes out"))

    live = ~sf.coalesce(column(deleted), sf.lit(False)) if deleted else sf.lit(True)
    # Without its values one deletion is like another.
    state = [sf.when(live, column(field.name)).alias(field.name) for field in values]
    return _event(
        changes, [required(name).alias(name) for name in keys], required(by), rank=CHANGES, live=live, values=state
    )


def _versions(history: DataFrame, keys: Sequence[str], values: Sequence[StructField]) -> DataFrame:
    from pyspark.sql import functions as sf

    state = [column(field.name) for field in values]
    return _event(
        history, [column(name) for name in keys], column(VALID_FROM), rank=BEGINS, live=sf.lit(True), values=state
    )


def _ends(history: DataFrame, keys: Sequence[str], values: Sequence[StructField]) -> DataFrame:
    """The end of each version: a deletion, unless another version begins at that time."""
    from pyspark.sql import functions as sf

    ended = history.where(column(VALID_TO).isNotNull())
    nothing = [sf.lit(None).cast(field.dataType).alias(field.name) for field in values]
    return _event(
        ended, [column(name) for name in keys], column(VALID_TO), rank=ENDS, live=sf.lit(False), values=nothing
    )


def _history(events: DataFrame, keys: Sequence[str], values: Sequence[StructField]) -> DataFrame:
    """The step function that *events* describe. One shuffle and one sort: the orders below begin alike."""
    from pyspark.sql import Window
    from pyspark.sql import functions as sf

    def get(name: str) -> Column:
        return sf.col(STATE).getField(name)

    live, state = get(LIVE), [comparable(get(field.name), field.dataType) for field in values]
    of_key = Window.partitionBy(*(column(name) for name in keys))
    by_rank = of_key.orderBy(TIME, RANK, live, *state)
    by_time = of_key.orderBy(TIME)

    following = sf.col(NEXT)
    last_of_instant = following.isNull() | (following != sf.col(TIME))
    instants = events.withColumn(NEXT, sf.lead(TIME).over(by_rank)).where(last_of_instant)
    said = sf.struct(live, *state)
    differs = sf.when(sf.col(BEFORE).isNull(), live).otherwise(~sf.col(BEFORE).eqNullSafe(said))
    steps = instants.withColumn(BEFORE, sf.lag(said).over(by_time)).where(differs)
    versions = steps.withColumn(NEXT, sf.lead(TIME).over(by_time)).where(live)
    return versions.select(
        *(column(name) for name in keys),
        *(get(field.name).alias(field.name) for field in values),
        sf.col(TIME).alias(VALID_FROM),
        following.alias(VALID_TO),
        following.isNull().alias(IS_CURRENT),
    )
