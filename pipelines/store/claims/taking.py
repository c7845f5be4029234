"""A worker takes the step that is next: live before backfill, then by priority, then the oldest run first."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pipelines.store.records import LEASE_SECONDS, Claim

# Slots are counted, not kept in a counter: a worker that dies takes none with it.
FULL = """
WITH full_pools AS (
  SELECT name FROM pipelines.pools WHERE paused OR size = 0
  UNION ALL
  SELECT p.name
  FROM pipelines.queue q CROSS JOIN LATERAL unnest(q.pools) AS held (name) JOIN pipelines.pools p USING (name)
  WHERE q.worker IS NOT NULL
  GROUP BY p.name, p.size HAVING count(*) >= p.size
), full_pipelines AS (
  SELECT p.name
  FROM pipelines.runs r JOIN pipelines.pipelines p ON p.name = r.pipeline
  WHERE r.state = 'running' AND r.backfill_id IS NULL
  GROUP BY p.name, p.max_runs HAVING count(*) >= p.max_runs
)
SELECT q.step_id, q.run_id, q.pipeline, q.pools,
       r.state = 'queued' AND r.backfill_id IS NULL
         AND EXISTS (SELECT FROM pipelines.pipelines p WHERE p.name = q.pipeline AND p.max_runs IS NOT NULL) AS starts
FROM pipelines.queue q JOIN pipelines.runs r ON r.id = q.run_id
WHERE q.worker IS NULL AND q.not_before <= statement_timestamp() AND r.stop IS NULL
  AND NOT q.pools && ARRAY(SELECT name FROM full_pools)
  AND NOT (r.state = 'queued' AND r.backfill_id IS NULL AND q.pipeline = ANY (ARRAY(SELECT name FROM full_pipelines)))
"""
NEXT = sa.text(f"{FULL} ORDER BY q.lane, q.priority DESC, q.run_id, q.step_id LIMIT 1 FOR UPDATE OF q SKIP LOCKED")
STILL = sa.text(f"{FULL} AND q.step_id = :step_id")
LOCK_POOLS = sa.text("SELECT 1 FROM pipelines.pools WHERE name = ANY (:pools) ORDER BY name FOR NO KEY UPDATE")
LOCK_PIPELINE = sa.text("SELECT 1 FROM pipelines.pipelines WHERE name = :pipeline FOR NO KEY UPDATE")
# Of one run. Who asks for a step by name has limits and delays of its own.
NEXT_OF_RUN = sa.text("""
SELECT q.step_id, q.run_id, q.pipeline
FROM pipelines.queue q JOIN pipelines.runs r ON r.id = q.run_id JOIN pipelines.steps s ON s.id = q.step_id
WHERE q.run_id = :run_id AND q.worker IS NULL AND r.stop IS NULL
  AND (s.name = :step OR (CAST(:step AS text) IS NULL AND q.not_before <= statement_timestamp()))
ORDER BY q.step_id LIMIT 1 FOR UPDATE OF q SKIP LOCKED
""")
HAS_ROOM = sa.text("""
SELECT r.state <> 'queued' OR p.max_runs IS NULL OR p.max_runs > (
  SELECT count(*) FROM pipelines.runs o WHERE o.pipeline = p.name AND o.state = 'running' AND o.backfill_id IS NULL)
FROM pipelines.runs r JOIN pipelines.pipelines p ON p.name = r.pipeline
WHERE r.id = :run_id
""")
TAKE = sa.text("""
WITH started AS (
  UPDATE pipelines.runs
  SET state = 'running', started_at = coalesce(started_at, clock_timestamp()),
      deadline = clock_timestamp() + make_interval(secs => timeout_seconds)
  WHERE id = :run_id AND state = 'queued' AND stop IS NULL RETURNING deadline
), step AS (
  UPDATE pipelines.steps
  SET state = 'running', attempts = attempts + 1, started_at = coalesce(started_at, clock_timestamp())
  WHERE id = :step_id RETURNING id, run_id, name, attempts
), attempt AS (
  INSERT INTO pipelines.attempts (run_id, step_id, number, worker, state, started_at)
  SELECT run_id, id, attempts, :worker, 'running', clock_timestamp() FROM step RETURNING id, number
), claimed AS (
  UPDATE pipelines.queue
  SET worker = :worker, attempt_id = (SELECT id FROM attempt), lease_until = clock_timestamp() + make_interval(secs => :lease)
  WHERE step_id = :step_id
)
SELECT attempt.id AS attempt_id, attempt.number, step.id AS step_id, step.name AS step, r.id AS run_id, r.key AS run_key,
       r.pipeline, r.definition_sha256, r.git_commit, r.notebook_hashes, r.lock_hash, r.parameters, r.instant, r.partition,
       r.run_as, coalesce((SELECT deadline FROM started), r.deadline) AS deadline
FROM attempt, step, pipelines.runs r WHERE r.id = :run_id
""").columns(notebook_hashes=sa.JSON, parameters=sa.JSON)


def take(connection: sa.Connection, worker: str) -> Claim | None:
    """Claim the next step for *worker*; None when nothing may run now.

    The claim holds for `LEASE_SECONDS` and as long again from each beat. Commit before anything runs.
    """
    while (found := connection.execute(NEXT).one_or_none()) is not None:
        if _has_room(connection, found):
            return _taken(connection, worker, found)
    return None


def take_of_run(connection: sa.Connection, worker: str, run_id: int, step: str | None = None) -> Claim | None:
    """Claim a step of one run, whatever its pools; None when none of it may run now.

    Args:
        connection: in a transaction.
        worker: whose the claim is.
        run_id: of the run.
        step: this one, also before its delay is over and however many runs there are; else the next one, when it
            is due and its pipeline has room for the run.
    """
    found = connection.execute(NEXT_OF_RUN, {"run_id": run_id, "step": step}).one_or_none()
    if found is None:
        return None
    if step is None:
        # Counted only when nobody else can change the number.
        connection.execute(LOCK_PIPELINE, {"pipeline": found.pipeline})
        if not connection.execute(HAS_ROOM, {"run_id": run_id}).scalar_one():
            return None
    return _taken(connection, worker, found)


def _taken(connection: sa.Connection, worker: str, found: sa.Row[Any]) -> Claim:
    ids = {"run_id": found.run_id, "step_id": found.step_id}
    taken = connection.execute(TAKE, {**ids, "worker": worker, "lease": LEASE_SECONDS}).one()
    return Claim(**taken._asdict(), worker=worker)


def _has_room(connection: sa.Connection, found: sa.Row[Any]) -> bool:
    """Whether there still is room; if so, nobody else can take it before this transaction ends."""
    if not found.pools and not found.starts:
        return True
    # What turns out to be full is unlocked again: who kept it while waiting for another pool could wait for ever.
    locks = connection.begin_nested()
    if found.pools:
        connection.execute(LOCK_POOLS, {"pools": found.pools})
    if found.starts:
        connection.execute(LOCK_PIPELINE, {"pipeline": found.pipeline})
    has_room = connection.execute(STILL, {"step_id": found.step_id}).one_or_none() is not None
    (locks.commit if has_room else locks.rollback)()
    return has_room
