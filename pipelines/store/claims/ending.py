"""An attempt has ended, by its worker's word or because its worker is gone: the step waits to be tried again, or ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from pipelines.states import State
from pipelines.store.database import notify
from pipelines.store.events import append_events, storable
from pipelines.store.outbox import post
from pipelines.store.records import Event, Outcome, Retries
from pipelines.store.runs.settling import end_step, settle
from pipelines.store.tables import ATTEMPTS, QUEUE, STEPS

ERROR_CHARACTERS = 8_000
LINES_CHARACTERS = 20_000


def end_attempt(
    connection: sa.Connection, run: sa.Row[Any], attempt_id: int, outcome: Outcome, chance: Callable[[], float]
) -> None:
    """Write how the attempt ended and what becomes of its step and run; both are locked by this transaction."""
    step = _write(connection, attempt_id, outcome)
    post(connection, outcome.messages)
    delay = None if run.stop is not None else _delay(connection, step, outcome.state, chance())
    if delay is not None:
        _try_again(connection, step, outcome, delay)
        return
    connection.execute(sa.delete(QUEUE).where(QUEUE.c.step_id == step.id))
    output = outcome.output_path if outcome.state is State.SUCCEEDED else None
    reason = None if outcome.state is State.SUCCEEDED else _reason(outcome)
    end_step(
        connection,
        run.id,
        step.name,
        outcome.state,
        reason,
        output_path=output,
        hash=outcome.step_hash if output else None,
    )
    settle(connection, run)


def _write(connection: sa.Connection, attempt_id: int, outcome: Outcome) -> sa.Row[Any]:
    values = {
        "state": outcome.state,
        "cell": outcome.cell,
        "error": None if outcome.error is None else storable(outcome.error, ERROR_CHARACTERS),
        "last_lines": storable("\n".join(outcome.last_lines), LINES_CHARACTERS) or None,
        "signal": outcome.signal,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "output_path": sa.func.coalesce(outcome.output_path, ATTEMPTS.c.output_path),
        "reused_from": outcome.reused_from,
        "resumed_from": outcome.resumed_from,
        "ended_at": sa.func.clock_timestamp(),
    }
    mine = (ATTEMPTS.c.id == attempt_id) & (STEPS.c.id == ATTEMPTS.c.step_id)
    return connection.execute(sa.update(ATTEMPTS).where(mine).values(values).returning(STEPS)).one()


def _delay(connection: sa.Connection, step: sa.Row[Any], state: State, chance: float) -> float | None:
    """Seconds until the step is tried again; None when it is not."""
    if state in {State.SUCCEEDED, State.SKIPPED, State.CANCELLED}:
        return None
    mine = (ATTEMPTS.c.step_id == step.id) & (ATTEMPTS.c.number >= step.first_attempt) & (ATTEMPTS.c.state == state)
    times = connection.execute(sa.select(sa.func.count()).select_from(ATTEMPTS).where(mine)).scalar_one()
    return Retries.from_json(step.retries).delay_seconds(state, times, chance)


def _try_again(connection: sa.Connection, step: sa.Row[Any], outcome: Outcome, delay: float) -> None:
    free = {"worker": None, "attempt_id": None, "lease_until": None}
    later = sa.func.clock_timestamp() + timedelta(seconds=delay)
    connection.execute(sa.update(QUEUE).where(QUEUE.c.step_id == step.id).values({**free, "not_before": later}))
    waiting = {"state": State.QUEUED, "reason": _reason(outcome)}
    connection.execute(sa.update(STEPS).where(STEPS.c.id == step.id).values(waiting))
    body = {"state": outcome.state, "reason": waiting["reason"], "seconds": round(delay, 3)}
    append_events(connection, step.run_id, [Event("retry", body)], step=step.name, attempt=step.attempts)
    notify(connection, "queue")


def _reason(outcome: Outcome) -> str:
    """One line for people."""
    if outcome.state is State.KERNEL_DIED and outcome.signal:
        return f"the kernel died of signal {outcome.signal}"
    lines = storable(outcome.error or "", ERROR_CHARACTERS).strip().splitlines()
    where = "" if outcome.cell is None else f"cell {outcome.cell + 1}: "
    return f"{where}{lines[-1]}" if lines else str(outcome.state)
