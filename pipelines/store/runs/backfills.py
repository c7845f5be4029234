"""Many partitions of one pipeline at once, behind everything that is live and in a pool of their own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from pipelines.states import State
from pipelines.store.database import notify
from pipelines.store.records import NewRun, Reprocess, Trigger
from pipelines.store.runs.making import make_runs, pause_pool, set_pool
from pipelines.store.tables import BACKFILLS, PIPELINES, RUNS
from workbench.errors import NoSuchRun, StoreError

# One that was repaired runs again, whatever has become of those after it.
LATEST = sa.text("""
SELECT wanted.partition, latest.state
FROM unnest(CAST(:partitions AS text[])) WITH ORDINALITY AS wanted (partition, place)
LEFT JOIN LATERAL (
  SELECT state FROM pipelines.runs r WHERE r.pipeline = :pipeline AND r.partition = wanted.partition
  ORDER BY (r.ended_at IS NULL) DESC, r.id DESC LIMIT 1
) latest ON true
ORDER BY wanted.place
""")


@dataclass(frozen=True)
class Planned:
    """What a backfill does with one partition."""

    partition: str
    state: State | None  #: of its run that has not ended, else of its last run; None when there was none
    runs: bool


def preview(
    connection: sa.Connection, pipeline: str, partitions: Collection[str], reprocess: Reprocess
) -> tuple[Planned, ...]:
    """What a backfill would do now, in the order of *partitions*. One that is queued or running is never run twice."""
    found = connection.execute(LATEST, {"pipeline": pipeline, "partitions": list(partitions)})
    states = ((row.partition, State(row.state) if row.state else None) for row in found)
    return tuple(Planned(partition, state, _is_run(state, reprocess)) for partition, state in states)


def make_backfill(
    connection: sa.Connection, runs: Sequence[NewRun], reprocess: Reprocess, *, slots: int, requested_by: str
) -> tuple[int, int]:
    """Make the runs that *reprocess* asks for, all or none; returns the id of the backfill and how many there are.

    Args:
        connection: in a transaction.
        runs: one for each partition, of one pipeline.
        reprocess: which of them.
        slots: how many of its steps may run at once.
        requested_by: who wants it.

    Raises:
        StoreError: when runs are of several pipelines, or have no partition.
        NoSuchRun: when the pipeline is not registered.
    """
    names = {run.pipeline for run in runs}
    if len(names) != 1 or not all(run.partition for run in runs):
        raise StoreError(
            f"a backfill is of one pipeline, not of {sorted(names)}, and each run has a partition",
            remedy="Give each run the pipeline's name and a partition.",
        )
    pipeline = names.pop()
    _lock_pipeline(connection, pipeline)
    planned = preview(connection, pipeline, [str(run.partition) for run in runs], reprocess)
    wanted = {each.partition for each in planned if each.runs}
    row = {"pipeline": pipeline, "pool": "", "reprocess": reprocess, "requested_by": requested_by}
    backfill_id = connection.execute(sa.insert(BACKFILLS).values(row).returning(BACKFILLS.c.id)).scalar_one()
    pool = f"backfill-{backfill_id}"
    connection.execute(sa.update(BACKFILLS).where(BACKFILLS.c.id == backfill_id).values(pool=pool))
    set_pool(connection, pool, slots)
    made = make_runs(connection, [_of(run, backfill_id, pool) for run in runs if run.partition in wanted])
    return backfill_id, len(made)


def pause_backfill(connection: sa.Connection, backfill_id: int, *, paused: bool) -> None:
    """Let no step of it begin, or let them begin again; what runs goes on.

    Raises:
        NoSuchRun: when there is none.
    """
    pause_pool(connection, _read(connection, backfill_id).pool, paused=paused)
    notify(connection, "queue")


def stop_backfill(connection: sa.Connection, backfill_id: int, reason: str) -> int:
    """Cancel what has not ended; returns how many runs. They end when `end_stopped` or `reap` of `claims.reaping` comes by, or their workers beat.

    Raises:
        NoSuchRun: when there is none.
    """
    _read(connection, backfill_id)
    unfinished = (RUNS.c.backfill_id == backfill_id) & RUNS.c.ended_at.is_(None) & RUNS.c.stop.is_(None)
    stopped = sa.update(RUNS).where(unfinished).values(stop=State.CANCELLED, stop_reason=reason)
    notify(connection, "stop")
    return connection.execute(stopped).rowcount


def read_backfills(connection: sa.Connection, pipeline: str | None = None) -> Sequence[sa.Row[Any]]:
    """Backfills, the newest first: id, pipeline, pool, reprocess, requested_by, created_at, states (how many runs by state)."""
    counts = (
        sa.select(RUNS.c.backfill_id, RUNS.c.state, sa.func.count().label("runs"))
        .where(RUNS.c.backfill_id.is_not(None))
        .group_by(RUNS.c.backfill_id, RUNS.c.state)
        .subquery()
    )
    states = sa.func.coalesce(
        sa.select(sa.func.json_object_agg(counts.c.state, counts.c.runs))
        .where(counts.c.backfill_id == BACKFILLS.c.id)
        .scalar_subquery(),
        sa.text("'{}'::json"),
    )
    found = sa.select(BACKFILLS, states.label("states")).order_by(BACKFILLS.c.id.desc())
    return connection.execute(found if pipeline is None else found.where(BACKFILLS.c.pipeline == pipeline)).all()


def pipeline_of_backfill(connection: sa.Connection, backfill_id: int) -> str:
    """The name of its pipeline.

    Raises:
        NoSuchRun: when there is no such backfill.
    """
    return str(_read(connection, backfill_id).pipeline)


def _is_run(state: State | None, reprocess: Reprocess) -> bool:
    if state is None:
        return True
    if not state.is_end or reprocess is Reprocess.MISSING:
        return False
    return reprocess is Reprocess.ALL or state is not State.SUCCEEDED


def _lock_pipeline(connection: sa.Connection, name: str) -> None:
    # Two who ask for the same partitions at once do so one after the other.
    found = sa.select(PIPELINES.c.name).where(PIPELINES.c.name == name).with_for_update(key_share=True)
    if connection.execute(found).one_or_none() is None:
        raise NoSuchRun(f"there is no pipeline {name}", remedy="Register it first.")


def _read(connection: sa.Connection, backfill_id: int) -> sa.Row[Any]:
    found = connection.execute(sa.select(BACKFILLS).where(BACKFILLS.c.id == backfill_id)).one_or_none()
    if found is None:
        raise NoSuchRun(
            f"there is no backfill {backfill_id}",
            remedy="Correct the number; or its pipeline does not keep so old runs.",
        )
    return found


def _of(run: NewRun, backfill_id: int, pool: str) -> NewRun:
    steps = tuple(replace(step, pools=(*step.pools, pool)) for step in run.steps)
    return replace(run, steps=steps, backfill_id=backfill_id, trigger=Trigger.BACKFILL, event_id=run.partition)
