"""What people want of flows. Each call may be repeated: what is so already is left as it is."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from pipelines.states import FlowState
from pipelines.store.tables import FLOWS

RUNNING, STOPPED = "running", "stopped"

# Whoever has it sees the new generation and ends what runs; without a holder, it waits for one at once.
HELD = "coalesce(f.lease_until > clock_timestamp(), false)"
AGAIN = sa.text(f"""
UPDATE pipelines.flows f SET desired = 'running', asked_by = :by, asked_at = clock_timestamp(),
  generation = generation + 1, restarts = 0, failures = 0, started_at = NULL,
  state = CASE WHEN {HELD} THEN state ELSE 'waiting' END,
  state_at = CASE WHEN {HELD} THEN state_at ELSE clock_timestamp() END,
  next_start_at = CASE WHEN {HELD} THEN next_start_at ELSE clock_timestamp() END,
  reason = CASE WHEN {HELD} THEN reason END, last_lines = CASE WHEN {HELD} THEN last_lines END
WHERE name = :name AND (:anyway OR desired = 'stopped' OR state IN ('waiting', 'failed'))
""")
END = sa.text(f"""
UPDATE pipelines.flows f SET desired = 'stopped', asked_by = :by, asked_at = clock_timestamp(),
  generation = generation + 1, next_start_at = NULL,
  state = CASE WHEN {HELD} THEN state ELSE 'stopped' END,
  state_at = CASE WHEN {HELD} THEN state_at ELSE clock_timestamp() END
WHERE name = :name AND desired = 'running'
""")


def want_running(connection: sa.Connection, name: str, by: str, *, anew: bool = False) -> bool:
    """Let workers keep the flow running; False when they do already.

    A flow that has failed, or waits to be started again, is started at once.

    Args:
        connection: in a transaction.
        name: of the flow.
        by: who wants it.
        anew: end the process that runs, and start another.
    """
    now = sa.func.clock_timestamp()
    values = {
        "name": name, "desired": RUNNING, "asked_by": by, "asked_at": now, "generation": 1, "fence": 0,
        "state": FlowState.WAITING, "state_at": now, "restarts": 0, "failures": 0, "next_start_at": now,
    }  # fmt: skip
    made = connection.execute(insert(FLOWS).values(values).on_conflict_do_nothing().returning(FLOWS.c.name)).first()
    if made is not None:
        return True
    return bool(connection.execute(AGAIN, {"name": name, "by": by, "anyway": anew}).rowcount)


def want_stopped(connection: sa.Connection, name: str, by: str) -> bool:
    """Let nobody run it any more; False when nobody does, or is to."""
    return bool(connection.execute(END, {"name": name, "by": by}).rowcount)
