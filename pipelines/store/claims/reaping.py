"""What nobody else sees to: claims whose lease has ended, runs that take too long, and runs that were stopped meanwhile.

Every scheduler and worker may do this, as often as it likes, at once with the others.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from pipelines.states import State
from pipelines.store.claims.ending import end_attempt
from pipelines.store.database import Store
from pipelines.store.events import database_time
from pipelines.store.records import LostAttempt, Message, Outcome
from pipelines.store.runs.settling import lock_run, settle
from pipelines.store.runs.stopping import stop
from pipelines.store.tables import QUEUE, RUNS, STEPS
from workbench.logs.context import bound

logger = logging.getLogger(__name__)

OTHERS_AT_ONCE = 100  # so that thousands of cancelled runs keep no lost step, and no claim, waiting
EXPIRED = sa.text("""
SELECT DISTINCT run_id FROM pipelines.queue WHERE worker IS NOT NULL AND lease_until < statement_timestamp()
ORDER BY 1 LIMIT :limit
""")
STOPPED = """
SELECT r.id FROM pipelines.runs r WHERE r.stop IS NOT NULL AND r.ended_at IS NULL
  AND EXISTS (SELECT FROM pipelines.queue q WHERE q.run_id = r.id AND q.worker IS NULL)
"""
OTHERS = sa.text(f"""
{STOPPED} UNION
SELECT id FROM pipelines.runs WHERE ended_at IS NULL AND stop IS NULL AND deadline < statement_timestamp()
ORDER BY 1 LIMIT :limit
""")
OF_BACKFILL = sa.text(f"{STOPPED} AND r.backfill_id = :backfill ORDER BY 1")


def reap(
    store: Store,
    *,
    limit: int = 1000,
    chance: Callable[[], float] = random.random,
    messages: Callable[[LostAttempt], Sequence[Message]] = lambda _: (),
) -> int:
    """See to runs whose claims have ended, then to a hundred others, each in a transaction of its own.

    Args:
        store: entered.
        limit: of runs whose claims have ended.
        chance: between 0 and 1, for delays.
        messages: what others are told of an attempt that is lost.

    Returns:
        How many runs there were.

    Raises:
        StoreError: when the store refuses or does not answer; what was seen to stays so.
    """
    with store.transaction() as connection:
        expired = connection.execute(EXPIRED, {"limit": limit}).scalars().all()
        others = connection.execute(OTHERS, {"limit": OTHERS_AT_ONCE}).scalars().all()
    run_ids = [*dict.fromkeys([*expired, *others])]
    for run_id in run_ids:
        with store.transaction() as connection:
            if (run := _held(connection, run_id)) is not None:
                with bound(run=run_id):
                    logger.info("a step of the run is nobody's any more, or its time is over")
                    _see_to(connection, run, chance, messages)
    return len(run_ids)


def end_stopped(store: Store, backfill_id: int) -> None:
    """End what waits of the stopped runs of a backfill, each run in a transaction of its own; what is claimed is left.

    Raises:
        StoreError: when the store refuses or does not answer; what was ended stays so.
    """
    with store.transaction() as connection:
        run_ids = connection.execute(OF_BACKFILL, {"backfill": backfill_id}).scalars().all()
    for run_id in run_ids:
        with store.transaction() as connection:
            run = _held(connection, run_id)
            if run is not None and run.ended_at is None:
                settle(connection, run)


def _held(connection: sa.Connection, run_id: int) -> sa.Row[Any] | None:
    # Who holds the run sees to it.
    found = sa.select(RUNS).where(RUNS.c.id == run_id).with_for_update(key_share=True, skip_locked=True)
    return connection.execute(found).one_or_none()


def _see_to(
    connection: sa.Connection,
    run: sa.Row[Any],
    chance: Callable[[], float],
    messages: Callable[[LostAttempt], Sequence[Message]],
) -> None:
    expired = (
        sa.select(QUEUE, STEPS.c.name.label("step"))
        .join(STEPS, STEPS.c.id == QUEUE.c.step_id)
        .where(QUEUE.c.run_id == run.id, QUEUE.c.worker.is_not(None))
        .where(QUEUE.c.lease_until < sa.func.statement_timestamp())
    )
    # One that is locked is being renewed or ended at this moment, or by who was stopped meanwhile: the next look sees it.
    unlocked = expired.order_by(QUEUE.c.step_id).with_for_update(of=QUEUE, skip_locked=True)
    for claim in connection.execute(unlocked).all():
        reason = f"worker {claim.worker} does not beat any more"
        lost = LostAttempt(
            pipeline=run.pipeline,
            run_key=run.key,
            step=claim.step,
            attempt_id=claim.attempt_id,
            instant=run.instant,
            reason=reason,
        )
        outcome = Outcome(state=State.LOST, error=reason, messages=messages(lost))
        end_attempt(connection, run, claim.attempt_id, outcome, chance)
    run = lock_run(connection, run.id)
    if run.ended_at is not None:
        return
    if run.stop is not None:
        settle(connection, run)
    elif run.deadline is not None and run.deadline < database_time(connection):
        stop(connection, run.id, "the run took longer than it may", state=State.TIMED_OUT)
