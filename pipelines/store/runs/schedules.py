"""How far each schedule has come. It moves on in the transaction of its runs, so an instant is run or skipped, once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from pipelines.store.database import notify
from pipelines.store.records import Json, NewRun
from pipelines.store.runs.making import make_runs
from pipelines.store.tables import SCHEDULES, SKIPS
from workbench.errors import NoSuchRun

# One look into the index for each: joined as a whole, PostgreSQL compares each of them with all that there are. Rows are
# locked in the order in which they are given.
MOVE = sa.text("""
WITH mine AS (
  SELECT t.pipeline, t.name, t.cursor, t.next_at
  FROM unnest(
    CAST(:pipelines AS text[]), CAST(:names AS text[]), CAST(:seen AS timestamptz[]),
    CAST(:cursors AS timestamptz[]), CAST(:next_at AS timestamptz[])
  ) AS t (pipeline, name, seen, cursor, next_at)
  CROSS JOIN LATERAL (
    SELECT FROM pipelines.schedules s
    WHERE s.pipeline = t.pipeline AND s.name = t.name AND s.cursor = t.seen AND NOT s.paused
    FOR UPDATE
  ) AS held
)
UPDATE pipelines.schedules s SET cursor = mine.cursor, next_at = mine.next_at
FROM mine WHERE s.pipeline = mine.pipeline AND s.name = mine.name
RETURNING s.pipeline, s.name
""")


@dataclass(frozen=True)
class Schedule:
    """A schedule as it stands."""

    pipeline: str
    name: str
    cursor: datetime  #: the last instant that was run or skipped; the next ones are counted from it
    next_at: datetime | None  #: the first after it, as its calendar said
    paused: bool
    paused_by: str | None
    paused_at: datetime | None
    position: Json = None  #: of a trigger whose events have no time; None before its first look


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What becomes of the instants of a schedule after `seen`, up to `cursor`."""

    pipeline: str
    schedule: str
    seen: datetime  #: the cursor from which all of this was worked out
    cursor: datetime
    next_at: datetime | None
    runs: Sequence[NewRun] = ()
    skips: Mapping[datetime, str] = field(default_factory=dict)  #: reason by instant
    position: Json = None  #: where the trigger has come; None leaves it as it is


def ensure_schedule(
    connection: sa.Connection, pipeline: str, name: str, *, cursor: datetime, next_at: datetime | None
) -> None:
    """Make the schedule; of one that is there only `next_at` changes, since its calendar may have."""
    new = insert(SCHEDULES).values(pipeline=pipeline, name=name, cursor=cursor, next_at=next_at)
    key = [SCHEDULES.c.pipeline, SCHEDULES.c.name]
    connection.execute(new.on_conflict_do_update(index_elements=key, set_={"next_at": next_at}))


def remove_schedules(connection: sa.Connection, pipeline: str, *, but: Collection[str] = ()) -> None:
    """Forget those that the pipeline no longer has; when it has none, paused ones stay, as they alone say that it is."""
    gone = (SCHEDULES.c.pipeline == pipeline) & SCHEDULES.c.name.not_in(list(but))
    if not but:
        # Its file, or its rule, may come back, and nobody has resumed it.
        gone &= ~SCHEDULES.c.paused
    connection.execute(sa.delete(SCHEDULES).where(gone))


def read_schedules(connection: sa.Connection, pipeline: str | None = None) -> tuple[Schedule, ...]:
    """All schedules, or those of one pipeline, the next to come first."""
    found = sa.select(SCHEDULES).order_by(SCHEDULES.c.next_at, SCHEDULES.c.pipeline, SCHEDULES.c.name)
    if pipeline is not None:
        found = found.where(SCHEDULES.c.pipeline == pipeline)
    return tuple(Schedule(*row) for row in connection.execute(found))


def named_schedules(connection: sa.Connection, prefix: str) -> tuple[Schedule, ...]:
    """Those of all pipelines whose names begin so."""
    found = sa.select(SCHEDULES).where(SCHEDULES.c.name.startswith(prefix, autoescape=True))
    return tuple(Schedule(*row) for row in connection.execute(found.order_by(SCHEDULES.c.pipeline, SCHEDULES.c.name)))


def advance(connection: sa.Connection, tick: Tick) -> dict[str, int] | None:
    """Make the runs and skips of *tick* and move the cursor; ids of new runs by key.

    Returns:
        None when the schedule was paused or moved on meanwhile; nothing was done then.
    """
    mine = (SCHEDULES.c.pipeline == tick.pipeline) & (SCHEDULES.c.name == tick.schedule)
    where = mine & (SCHEDULES.c.cursor == tick.seen) & ~SCHEDULES.c.paused
    values: dict[str, Json] = {"cursor": tick.cursor, "next_at": tick.next_at}
    if tick.position is not None:
        values["position"] = tick.position
    if not connection.execute(sa.update(SCHEDULES).where(where).values(values)).rowcount:
        return None
    _write_skips(connection, [tick])
    return make_runs(connection, tick.runs)


def advance_all(connection: sa.Connection, ticks: Sequence[Tick]) -> tuple[tuple[Tick, tuple[int, ...]], ...]:
    """`advance` of many at once, in four statements instead of four for each.

    Returns:
        Those that were carried out, each with the ids of its new runs.
    """
    # In one order, so that two schedulers who move the same ones do not wait for each other.
    ticks = sorted(ticks, key=lambda each: (each.pipeline, each.schedule))
    seen = {
        "pipelines": [each.pipeline for each in ticks],
        "names": [each.schedule for each in ticks],
        "seen": [each.seen for each in ticks],
        "cursors": [each.cursor for each in ticks],
        "next_at": [each.next_at for each in ticks],
    }
    moved = {tuple(row) for row in connection.execute(MOVE, seen)}
    done = tuple(each for each in ticks if (each.pipeline, each.schedule) in moved)
    _write_skips(connection, done)
    made = make_runs(connection, [run for each in done for run in each.runs])
    return tuple((each, tuple(made[run.key] for run in each.runs if run.key in made)) for each in done)


def pause_schedule(connection: sa.Connection, pipeline: str, name: str, by: str) -> None:
    """Let no run begin by this schedule; the cursor stays, so that what is missed can be told.

    Raises:
        NoSuchRun: when there is no such schedule.
    """
    _set(connection, pipeline, name, paused=True, paused_by=by, paused_at=sa.func.now())


def resume_schedule(connection: sa.Connection, pipeline: str, name: str) -> None:
    """Let it go on from where it stood; what becomes of the instants between is its catch-up's to say.

    Raises:
        NoSuchRun: when there is no such schedule.
    """
    _set(connection, pipeline, name, paused=False, paused_by=None, paused_at=None)


def pause_schedules(connection: sa.Connection, pipeline: str, by: str) -> None:
    """Let no run of the pipeline begin by any schedule or trigger; all of them then look again.

    Raises:
        NoSuchRun: when it has none, or no scheduler has seen one.
    """
    _each(connection, pipeline, lambda name: pause_schedule(connection, pipeline, name, by))


def resume_schedules(connection: sa.Connection, pipeline: str) -> None:
    """Let all schedules and triggers of the pipeline go on from where they stood.

    Raises:
        NoSuchRun: when it has none, or no scheduler has seen one.
    """
    _each(connection, pipeline, lambda name: resume_schedule(connection, pipeline, name))


def _each(connection: sa.Connection, pipeline: str, action: Callable[[str], None]) -> None:
    schedules = read_schedules(connection, pipeline)
    if not schedules:
        raise NoSuchRun(
            f"no scheduler has seen a schedule or a trigger of {pipeline}",
            remedy="Correct the name, or give it one; docs/pipelines.md has the format.",
        )
    for each in schedules:
        action(each.name)
    notify(connection, "schedules")


def _write_skips(connection: sa.Connection, ticks: Iterable[Tick]) -> None:
    rows = [
        {"pipeline": each.pipeline, "schedule": each.schedule, "instant": instant, "reason": reason}
        for each in ticks
        for instant, reason in each.skips.items()
    ]
    if rows:
        connection.execute(insert(SKIPS).on_conflict_do_nothing(), rows)


def _set(connection: sa.Connection, pipeline: str, name: str, **values: object) -> None:
    mine = (SCHEDULES.c.pipeline == pipeline) & (SCHEDULES.c.name == name)
    if not connection.execute(sa.update(SCHEDULES).where(mine).values(values)).rowcount:
        raise NoSuchRun(
            f"{pipeline} has no schedule {name}", remedy="Correct the names of the pipeline and its schedule."
        )
