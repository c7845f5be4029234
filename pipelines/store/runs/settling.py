"""A run moves on: what its steps have become makes others ready, cancels them, or ends it, in the transaction of the cause."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from pipelines.states import State
from pipelines.store.alerts import tell_end
from pipelines.store.database import CHANNEL
from pipelines.store.events import append_events
from pipelines.store.records import Event
from pipelines.store.runs.moves import GOOD, Step, next_moves, run_end
from pipelines.store.tables import QUEUE, RUNS, STEPS
from workbench.errors import NoSuchRun

ENQUEUE = sa.text(f"""
WITH added AS (
  INSERT INTO pipelines.queue (step_id, run_id, pipeline, pools, lane, priority)
  SELECT s.id, r.id, r.pipeline, s.pools, (r.backfill_id IS NOT NULL)::int, r.priority
  FROM pipelines.steps s JOIN pipelines.runs r ON r.id = s.run_id
  WHERE s.run_id = ANY (:run_ids) AND s.name = ANY (:names)
)
SELECT pg_notify('{CHANNEL}', 'queue')
""")
# A row that is locked is being claimed at this moment: its worker is told at its next beat.
LEAVE_QUEUE = sa.text("""
DELETE FROM pipelines.queue WHERE step_id IN (
  SELECT step_id FROM pipelines.queue WHERE run_id = :run_id AND worker IS NULL FOR UPDATE SKIP LOCKED
)
""")


def lock_run(connection: sa.Connection, run_id: int) -> sa.Row[Any]:
    """The run, which nobody else changes until this transaction ends.

    Raises:
        NoSuchRun: when there is none.
    """
    # Not FOR UPDATE: inserting what refers to the run must not wait.
    found = connection.execute(sa.select(RUNS).where(RUNS.c.id == run_id).with_for_update(key_share=True)).one_or_none()
    if found is None:
        raise NoSuchRun(
            f"there is no run {run_id}", remedy="Correct the number; or its pipeline does not keep so old runs."
        )
    return found


def enqueue(connection: sa.Connection, run_ids: Collection[int], names: Collection[str]) -> None:
    """Let workers claim those steps of those runs."""
    connection.execute(ENQUEUE, {"run_ids": list(run_ids), "names": list(names)})


def settle(connection: sa.Connection, run: sa.Row[Any]) -> None:
    """Do what follows from the states of the steps; *run* is of `lock_run`, or as fresh as that."""
    if run.stop is not None:
        connection.execute(LEAVE_QUEUE, {"run_id": run.id})
    steps = read_steps(connection, run.id)
    moves = next_moves(steps, run.stop_reason if run.stop is not None else None)
    for name, (state, reason) in moves.ended.items():
        end_step(connection, run.id, name, state, reason)
    if moves.ready:
        enqueue(connection, [run.id], moves.ready)
    states = {step.name: step.state for step in steps} | {name: state for name, (state, _) in moves.ended.items()}
    end = run_end(states.values(), State(run.stop) if run.stop is not None else None)
    if end is not None:
        _end_run(connection, run, end, _reason(run, end, states))


def read_steps(connection: sa.Connection, run_id: int) -> list[Step]:
    """How the steps of a run stand, in the order of their definition."""
    in_queue = sa.exists().where(QUEUE.c.step_id == STEPS.c.id)
    found = sa.select(STEPS.c.name, STEPS.c.after, STEPS.c.state, in_queue).where(STEPS.c.run_id == run_id)
    rows = connection.execute(found.order_by(STEPS.c.position))
    return [Step(name, after, State(state), is_in_queue) for name, after, state, is_in_queue in rows]


def end_step(
    connection: sa.Connection, run_id: int, name: str, state: State, reason: str | None, **more: object
) -> None:
    """Write that a step has ended, for everybody who looks."""
    ended = {"state": state, "reason": reason, "ended_at": sa.func.clock_timestamp(), **more}
    connection.execute(sa.update(STEPS).where(STEPS.c.run_id == run_id, STEPS.c.name == name).values(ended))
    append_events(connection, run_id, [Event("step", {"state": state, "reason": reason})], step=name)


def _reason(run: sa.Row[Any], end: State, states: dict[str, State]) -> str | None:
    if end in GOOD:
        return None
    if run.stop == end:
        return str(run.stop_reason)
    return f"{', '.join(name for name, state in states.items() if state is end)} ended {end}"


def _end_run(connection: sa.Connection, run: sa.Row[Any], end: State, reason: str | None) -> None:
    ended = {"state": end, "reason": reason, "ended_at": sa.func.clock_timestamp()}
    connection.execute(sa.update(RUNS).where(RUNS.c.id == run.id).values(ended))
    append_events(connection, run.id, [Event("run", {"state": end, "reason": reason})])
    tell_end(connection, run, end, reason)
