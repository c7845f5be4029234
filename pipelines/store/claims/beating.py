"""A worker says that it is alive, and learns which of its claims it still has and which it is to end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from pipelines.states import State
from pipelines.store.records import LEASE_SECONDS, Claim, Worker
from pipelines.store.tables import WORKERS

# In one order, so that two who change several rows do not wait for each other.
RENEW = sa.text("""
WITH mine AS (
  SELECT step_id, attempt_id, run_id FROM pipelines.queue
  WHERE worker = :worker AND attempt_id = ANY (:attempts) ORDER BY step_id FOR UPDATE
), renewed AS (
  UPDATE pipelines.queue q SET lease_until = clock_timestamp() + make_interval(secs => :lease)
  FROM mine WHERE q.step_id = mine.step_id
)
SELECT mine.attempt_id, r.stop, r.stop_reason, r.deadline <= clock_timestamp() AS overdue
FROM mine JOIN pipelines.runs r ON r.id = mine.run_id
""")


@dataclass(frozen=True)
class Stop:
    """Why an attempt is to be ended, and how it then ends."""

    state: State
    reason: str


@dataclass(frozen=True)
class Beat:
    """What a worker is told: its claims by the id of their attempt."""

    lost: frozenset[int]  #: end what runs for them, and throw away what it wrote: nothing of it counts
    stop: Mapping[int, Stop]  #: end what runs for them, and finish them so


def beat(connection: sa.Connection, worker: Worker, claims: Iterable[Claim] = ()) -> Beat:
    """Say that *worker* lives and holds *claims*; each holds for `LEASE_SECONDS` more.

    To be called every `BEAT_SECONDS`, by a thread that nothing else can hold up. A worker that cannot reach
    the store for `LEASE_SECONDS` has to take its claims for lost.
    """
    row = {"id": worker.id, "host": worker.host, "pid": worker.pid, "version": worker.version, "slots": worker.slots}
    again = {"beat_at": sa.func.clock_timestamp(), "slots": worker.slots}
    connection.execute(insert(WORKERS).values(row).on_conflict_do_update(index_elements=[WORKERS.c.id], set_=again))
    attempts = {claim.attempt_id for claim in claims}
    if not attempts:
        return Beat(frozenset(), {})
    found = connection.execute(RENEW, {"worker": worker.id, "attempts": list(attempts), "lease": LEASE_SECONDS}).all()
    stop = {row.attempt_id: Stop(State(row.stop), row.stop_reason) for row in found if row.stop is not None}
    late = Stop(State.TIMED_OUT, "the run took longer than it may")
    stop |= {row.attempt_id: late for row in found if row.overdue and row.stop is None}
    return Beat(frozenset(attempts - {row.attempt_id for row in found}), stop)


def leave(connection: sa.Connection, worker: str) -> None:
    """Take a worker that ends by itself off the list; what it still holds is another's once its lease has ended."""
    connection.execute(sa.delete(WORKERS).where(WORKERS.c.id == worker))
