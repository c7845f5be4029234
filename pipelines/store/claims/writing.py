"""What a worker writes about a step that it has claimed. Nothing is written once the claim is another's."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from pipelines.states import State
from pipelines.store.claims.ending import end_attempt
from pipelines.store.events import append_events
from pipelines.store.records import Claim, Event, Outcome
from pipelines.store.runs.settling import lock_run
from pipelines.store.tables import ATTEMPTS, QUEUE, STEPS
from workbench.errors import ClaimLost, NoSuchRun


def record_events(connection: sa.Connection, claim: Claim, events: Sequence[Event]) -> None:
    """Append to the events of the run.

    Raises:
        ClaimLost: when the step is no longer this worker's.
    """
    _hold(connection, claim, shared=True)
    append_events(connection, claim.run_id, events, step=claim.step, attempt=claim.number)


def point_output(connection: sa.Connection, claim: Claim, path: str) -> None:
    """Say where the output of the attempt grows, for who looks before it has ended.

    Raises:
        ClaimLost: when the step is no longer this worker's.
    """
    _hold(connection, claim, shared=True)
    mine = ATTEMPTS.c.id == claim.attempt_id
    connection.execute(sa.update(ATTEMPTS).where(mine).values(output_path=path))


def find_reusable(connection: sa.Connection, step_hash: str) -> tuple[int, str] | None:
    """The last attempt that succeeded with the same hash, and the path of its output, for `Outcome.reused_from`."""
    found = (
        sa.select(ATTEMPTS.c.id, STEPS.c.output_path)
        .join(STEPS, (STEPS.c.id == ATTEMPTS.c.step_id) & (STEPS.c.attempts == ATTEMPTS.c.number))
        .where(STEPS.c.hash == step_hash, STEPS.c.state == State.SUCCEEDED, STEPS.c.output_path.is_not(None))
        .order_by(ATTEMPTS.c.id.desc())
        .limit(1)
    )
    row = connection.execute(found).one_or_none()
    return None if row is None else (row.id, row.output_path)


def read_unfinished(connection: sa.Connection, claim: Claim) -> list[tuple[int, int]]:
    """Number and id of attempts of the step whose checkpoints the claimed one may go on from, the newest first.

    They are those since the last success, and since a repair that was to begin with the first cell.
    """
    done = sa.select(sa.func.max(ATTEMPTS.c.number)).where(
        ATTEMPTS.c.step_id == claim.step_id, ATTEMPTS.c.state == State.SUCCEEDED
    )
    found = (
        sa.select(ATTEMPTS.c.number, ATTEMPTS.c.id)
        .join(STEPS, STEPS.c.id == ATTEMPTS.c.step_id)
        .where(STEPS.c.id == claim.step_id, ATTEMPTS.c.number < claim.number)
        .where(ATTEMPTS.c.number > sa.func.greatest(STEPS.c.resume_after, done.scalar_subquery()))
    )
    return [(number, attempt_id) for number, attempt_id in connection.execute(found.order_by(ATTEMPTS.c.number.desc()))]


def finish(
    connection: sa.Connection, claim: Claim, outcome: Outcome, *, chance: Callable[[], float] = random.random
) -> None:
    """End the attempt, and do what follows: try again later, let others begin, cancel them, end the run.

    May be repeated when it is not known whether it was committed: the second time nothing happens.

    Raises:
        ClaimLost: when the step is no longer this worker's; what the attempt has made is to be thrown away.
    """
    try:
        run = lock_run(connection, claim.run_id)
        _hold(connection, claim)
    except (ClaimLost, NoSuchRun):
        if not _is_finished(connection, claim, outcome):
            raise _lost(claim) from None
        return
    append_events(connection, run.id, outcome.events, step=claim.step, attempt=claim.number)
    end_attempt(connection, run, claim.attempt_id, outcome, chance)


def _hold(connection: sa.Connection, claim: Claim, *, shared: bool = False) -> None:
    """Keep others from taking the step over until this transaction ends."""
    mine = (QUEUE.c.step_id == claim.step_id) & (QUEUE.c.attempt_id == claim.attempt_id)
    held = sa.select(QUEUE.c.step_id).where(mine).with_for_update(read=shared)
    if connection.execute(held).one_or_none() is None:
        raise _lost(claim)


def _is_finished(connection: sa.Connection, claim: Claim, outcome: Outcome) -> bool:
    # Only its own worker ends an attempt in another way than lost.
    state = connection.execute(
        sa.select(ATTEMPTS.c.state).where(ATTEMPTS.c.id == claim.attempt_id)
    ).scalar_one_or_none()
    return state == outcome.state and state != State.LOST


def _lost(claim: Claim) -> ClaimLost:
    return ClaimLost(
        f"attempt {claim.number} of step {claim.step} of run {claim.run_id} is no longer that of worker {claim.worker}",
        remedy="End what it runs and throw its output away; another worker goes on.",
    )
