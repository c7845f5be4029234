"""A run is stopped before its end, or taken up again after it."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from pipelines.states import State
from pipelines.store.database import notify
from pipelines.store.events import append_events
from pipelines.store.records import ELSEWHERE, Event
from pipelines.store.runs.moves import GOOD, with_followers
from pipelines.store.runs.settling import lock_run, read_steps, settle
from pipelines.store.tables import RUNS, STEPS
from workbench.errors import NoSuchRun, StoreError


def stop(connection: sa.Connection, run_id: int, reason: str, *, state: State = State.CANCELLED) -> bool:
    """Begin no more steps of the run, and tell workers to end those that run; the run ends with the last of them.

    Args:
        connection: in a transaction.
        run_id: of the run.
        reason: who wants it, or what rule; people read it.
        state: how the run ends, if nothing but this keeps it from success.

    Returns:
        False when it had ended or was being stopped; nothing changes then.

    Raises:
        NoSuchRun: when there is none.
    """
    run = lock_run(connection, run_id)
    if run.ended_at is not None or run.stop is not None:
        return False
    stopped = sa.update(RUNS).where(RUNS.c.id == run_id).values(stop=state, stop_reason=reason)
    append_events(connection, run_id, [Event("stop", {"state": state, "reason": reason})])
    settle(connection, connection.execute(stopped.returning(RUNS)).one())
    notify(connection, "stop")
    return True


def demand_ours(connection: sa.Connection, run_id: int) -> None:
    """Let a run pass that our workers run.

    Raises:
        StoreError: when another engine runs its steps: queued here, they would wait for ever.
    """
    elsewhere = sa.exists().where(STEPS.c.run_id == run_id, STEPS.c.pools.contains([ELSEWHERE]))
    if connection.execute(sa.select(elsewhere)).scalar_one():
        raise StoreError(
            f"run {run_id} is of another scheduler, and no worker here takes its steps",
            remedy="Clear the task there, with those that follow; on Kubernetes, create a new Job.",
        )


def repair(
    connection: sa.Connection, run_id: int, *, by: str, steps: Collection[str] = (), from_start: bool = False
) -> set[str]:
    """Run again what did not succeed, and what follows from it; what succeeded is kept. Returns the names of those steps.

    Args:
        connection: in a transaction.
        run_id: of a run that has ended.
        by: who wants it.
        steps: run these again instead, whatever became of them, and what follows from them.
        from_start: with their first cells, whatever checkpoints there are.

    Raises:
        NoSuchRun: when there is no such run, or no such step in it.
        StoreError: when it has not ended, or all of it succeeded.
    """
    run = lock_run(connection, run_id)
    if run.ended_at is None:
        raise StoreError(f"run {run_id} is {run.state}", remedy="Cancel it first, or wait until it has ended.")
    there = read_steps(connection, run_id)
    if unknown := sorted(set(steps) - {step.name for step in there}):
        names = ", ".join(step.name for step in there)
        raise NoSuchRun(f"run {run_id} has no step {', '.join(unknown)}", remedy=f"It has {names}.")
    again = with_followers(steps or [step.name for step in there if step.state not in GOOD], there)
    if not again:
        raise StoreError(f"run {run_id} succeeded", remedy="Name the steps that shall run again.")
    _begin_again(connection, run_id, again, from_start=from_start)
    told = {"by": by, "steps": sorted(again), **({"from_start": True} if from_start else {})}
    append_events(connection, run_id, [Event("repair", told)])
    settle(connection, lock_run(connection, run_id))
    return again


def _begin_again(connection: sa.Connection, run_id: int, names: Collection[str], *, from_start: bool) -> None:
    # Attempts go on being counted, since their numbers are in the paths of what they wrote; retries begin anew.
    fresh = {"state": State.QUEUED, "first_attempt": STEPS.c.attempts + 1}
    if from_start:
        fresh["resume_after"] = STEPS.c.attempts
    empty = dict.fromkeys(("reason", "hash", "output_path", "started_at", "ended_at"))
    mine = (STEPS.c.run_id == run_id) & STEPS.c.name.in_(list(names))
    connection.execute(sa.update(STEPS).where(mine).values({**fresh, **empty}))
    empty = dict.fromkeys(("reason", "stop", "stop_reason", "ended_at", "deadline"))
    again = {"state": State.QUEUED, "repairs": RUNS.c.repairs + 1, **empty}
    connection.execute(sa.update(RUNS).where(RUNS.c.id == run_id).values(again))
