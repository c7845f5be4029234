"""Pages of runs: all of a pipeline, with or without their steps, and one with everything about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from pipelines.states import State
from pipelines.store.events import read_events
from pipelines.store.records import event_key
from pipelines.store.tables import ATTEMPTS, EVENTS, PAST_EVENTS, RUNS, STEPS
from workbench.errors import NoSuchRun

Row = dict[str, Any]
# Not the parameters and hashes: ten thousand of them are megabytes that no page of many runs shows.
BRIEF = [
    column
    for name, column in RUNS.c.items()
    if name not in {"key", "parameters", "notebook_hashes", "lock_hash", "git_commit", "stop_reason"}
]


@dataclass(frozen=True)
class RunPage:
    """One run with all about it."""

    run: Row
    steps: list[Row]
    attempts: list[Row]  #: of all steps, in the order of their start; `step` is the name
    events: list[Row]  #: after the id that was asked for, in order


def page_of_runs(
    connection: sa.Connection,
    *,
    pipeline: str | None = None,
    states: tuple[State, ...] = (),
    backfill_id: int | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Row]:
    """Runs, the newest first.

    Args:
        connection: in a transaction.
        pipeline: only of this one.
        states: only those that stand so.
        backfill_id: only of this backfill.
        before: only those with a lesser id, for the page after the one that ended with it.
        limit: how many at most.
    """
    found = sa.select(*BRIEF).order_by(RUNS.c.id.desc()).limit(limit)
    if pipeline is not None:
        found = found.where(RUNS.c.pipeline == pipeline)
    if states:
        found = found.where(RUNS.c.state.in_(states))
    if backfill_id is not None:
        found = found.where(RUNS.c.backfill_id == backfill_id)
    if before is not None:
        found = found.where(RUNS.c.id < before)
    return _rows(connection, found)


def run_matrix(
    connection: sa.Connection, pipeline: str, *, before: int | None = None, limit: int = 50
) -> tuple[list[Row], list[str]]:
    """Runs of a pipeline, the newest first, each with `steps`: state by name; and the names in order, the newest run's first."""
    runs = page_of_runs(connection, pipeline=pipeline, before=before, limit=limit)
    by_id: dict[int, Row] = {run["id"]: run | {"steps": {}} for run in runs}
    columns = (STEPS.c.run_id, STEPS.c.name, STEPS.c.state)
    found = sa.select(*columns).where(STEPS.c.run_id.in_(by_id)).order_by(STEPS.c.run_id.desc(), STEPS.c.position)
    names: dict[str, None] = {}
    for run_id, name, state in connection.execute(found):
        by_id[run_id]["steps"][name] = state
        names[name] = None
    return list(by_id.values()), list(names)


def read_run(connection: sa.Connection, run_id: int, *, after_event: int = 0, events: int = 1000) -> RunPage:
    """One run, with at most so many of its events after *after_event*.

    Raises:
        NoSuchRun: when there is none.
    """
    run = _rows(connection, sa.select(RUNS).where(RUNS.c.id == run_id))
    if not run:
        raise _no_such_run(run_id)
    steps = sa.select(STEPS).where(STEPS.c.run_id == run_id).order_by(STEPS.c.position)
    attempts = (
        sa.select(ATTEMPTS, STEPS.c.name.label("step"))
        .join(STEPS, STEPS.c.id == ATTEMPTS.c.step_id)
        .where(ATTEMPTS.c.run_id == run_id)
        .order_by(ATTEMPTS.c.id)
    )
    told = read_events(connection, run_id, after=after_event, limit=events)
    return RunPage(run[0], _rows(connection, steps), _rows(connection, attempts), [row._asdict() for row in told])


def open_runs(connection: sa.Connection, pipeline: str) -> Sequence[int]:
    """Ids of the pipeline's runs that have not ended, the oldest first, without those of backfills."""
    is_open = (RUNS.c.pipeline == pipeline) & RUNS.c.ended_at.is_(None) & RUNS.c.backfill_id.is_(None)
    return connection.execute(sa.select(RUNS.c.id).where(is_open).order_by(RUNS.c.id)).scalars().all()


def is_open(connection: sa.Connection, key: str) -> bool:
    """Whether the run with this key has not ended; one that is gone has."""
    found = sa.select(RUNS.c.id).where(RUNS.c.key == key, RUNS.c.ended_at.is_(None))
    return connection.execute(found).first() is not None


def known_events(connection: sa.Connection, pipeline: str, ids: Collection[str]) -> frozenset[str]:
    """Which of these events have started a run of the pipeline, whether it is still kept or not."""
    by_key = {event_key(pipeline, each): each for each in ids}
    asked = sa.literal(list(by_key), ARRAY(sa.Text))
    # In one statement: between two a run could go.
    found = connection.scalars(
        sa.union_all(*(sa.select(each.c.key).where(each.c.key == sa.any_(asked)) for each in (RUNS, PAST_EVENTS)))
    )
    return frozenset(by_key[key] for key in found)


def pipeline_of_run(connection: sa.Connection, run_id: int) -> str:
    """The name of its pipeline.

    Raises:
        NoSuchRun: when there is no such run.
    """
    found = connection.execute(sa.select(RUNS.c.pipeline).where(RUNS.c.id == run_id)).scalar_one_or_none()
    if found is None:
        raise _no_such_run(run_id)
    return str(found)


def ended_runs(
    connection: sa.Connection, pipeline: str, states: Collection[State], since: datetime
) -> Sequence[sa.Row[Any]]:
    """Runs of a pipeline that have ended so after *since*, in the order of their ends: id, repairs, instant, ended_at."""
    columns: list[sa.Column[Any]] = [RUNS.c.id, RUNS.c.repairs, RUNS.c.instant, RUNS.c.ended_at]
    found = sa.select(*columns).where(RUNS.c.pipeline == pipeline, RUNS.c.state.in_(states), RUNS.c.ended_at > since)
    return connection.execute(found.order_by(RUNS.c.ended_at, RUNS.c.id)).all()


def last_event(connection: sa.Connection, run_id: int) -> int:
    """The id of the run's last event; 0 when there is none."""
    last = sa.select(sa.func.coalesce(sa.func.max(EVENTS.c.id), 0)).where(EVENTS.c.run_id == run_id)
    return int(connection.execute(last).scalar_one())


def _no_such_run(run_id: int) -> NoSuchRun:
    remedy = "Correct the number; or its pipeline does not keep so old runs."
    return NoSuchRun(f"there is no run {run_id}", remedy=remedy)


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]
