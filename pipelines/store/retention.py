"""Old runs are let go, as their pipelines say; the last failure of each stays, and what is still shown or reused.

Their files go after their rows: which ones is written in the same transaction, so that whoever is killed
in between leaves nothing that is not found again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

RUNS = 500  # in one transaction: others wait for none of it, but it should not be long
# The same event may be seen, or sent, again for some minutes: the key of its run is what makes it one run.
EVENT_SECONDS = 3600.0
# A step that is about to reuse an output says so within the time of its claim.
REUSE_SECONDS = 60.0
PAGE = 5000  # files that are asked for at once
AGAIN_SECONDS = 3600.0  # after which a folder that could not be removed is tried again
# Runs of backfills are counted by themselves: a year of hours is made at once, and would push out all that is live.
OLD = sa.text("""
WITH ranked AS (
  SELECT r.id, r.pipeline, r.state, r.ended_at, r.backfill_id, p.keep_runs, p.keep_days,
         row_number() OVER (PARTITION BY r.pipeline, r.backfill_id IS NULL ORDER BY r.id DESC) AS place,
         r.id = max(r.id) FILTER (WHERE r.state NOT IN ('succeeded', 'skipped', 'cancelled', 'queued', 'running'))
           OVER (PARTITION BY r.pipeline) AS is_last_failure,
         r.id = max(r.id) FILTER (WHERE r.state = 'succeeded') OVER (PARTITION BY r.pipeline) AS is_last_success,
         r.trigger = 'event' AND r.created_at > now() - make_interval(secs => :event_seconds) AS is_recent_event
  FROM pipelines.runs r JOIN pipelines.pipelines p ON p.name = r.pipeline
  WHERE p.keep_runs IS NOT NULL OR p.keep_days IS NOT NULL
)
SELECT id, pipeline, state, ended_at FROM ranked
WHERE ended_at IS NOT NULL AND is_last_failure IS NOT TRUE AND is_last_success IS NOT TRUE AND NOT is_recent_event
  AND (place > keep_runs OR ended_at < now() - make_interval(days => keep_days::int))
  AND (backfill_id IS NULL OR backfill_id NOT IN (
    SELECT u.backfill_id FROM pipelines.runs u WHERE u.backfill_id IS NOT NULL AND u.ended_at IS NULL
  ))
ORDER BY id LIMIT :limit
""")
# A run that is being repaired at this moment has no end any more.
HOLD = sa.text("""
SELECT id FROM pipelines.runs WHERE id = ANY (:ids) AND ended_at IS NOT NULL ORDER BY id FOR UPDATE SKIP LOCKED
""")
NOTE_FILES = sa.text("""
INSERT INTO pipelines.removals (path, worker, not_before)
SELECT a.output_path, min(a.worker),
       now() + CASE WHEN bool_or(s.hash IS NOT NULL) THEN make_interval(secs => :reuse_seconds) ELSE interval '0' END
FROM pipelines.attempts a JOIN pipelines.steps s ON s.id = a.step_id
WHERE a.run_id = ANY (:ids) AND a.output_path IS NOT NULL
GROUP BY a.output_path
ON CONFLICT (path) DO NOTHING
""")
# A file and an end of a run are there as long as they are, and a trigger sees again what is not long before its
# cursor. That stands where it is while nothing happens, or the trigger is paused, and the runs need not be kept so long.
# Its time of an event is not after that of the run, but for a file whose clock is ahead: then it is the instant.
SEEN_AGAIN = """
  SELECT least(now(), min(s.cursor)) - make_interval(secs => :event_seconds) FROM pipelines.schedules s
  WHERE s.pipeline = e.pipeline AND (starts_with(s.name, 'file ') OR starts_with(s.name, 'pipeline '))
"""
NOTE_EVENTS = sa.text(f"""
INSERT INTO pipelines.past_events (key, pipeline, at)
SELECT e.key, e.pipeline, greatest(e.created_at, e.instant) FROM pipelines.runs e
WHERE e.id = ANY (:ids) AND e.trigger = 'event' AND greatest(e.created_at, e.instant) > ({SEEN_AGAIN})
ON CONFLICT (key) DO NOTHING
""")
FORGET_EVENTS = sa.text(f"DELETE FROM pipelines.past_events e WHERE e.at <= ({SEEN_AGAIN})")
DELETE_RUNS = sa.text("DELETE FROM pipelines.runs WHERE id = ANY (:ids)")
# A step that reused an output names the same file.
KEEP_USED = sa.text("""
DELETE FROM pipelines.removals m WHERE EXISTS (SELECT FROM pipelines.attempts a WHERE a.output_path = m.path)
""")
# A page, since of machines that are gone there may be any number.
DUE = sa.text("""
SELECT m.path, m.worker FROM pipelines.removals m
WHERE m.not_before <= now() AND starts_with(m.path, :below) AND m.path > :after
  AND NOT EXISTS (SELECT FROM pipelines.attempts a WHERE a.output_path = m.path)
ORDER BY m.path LIMIT :limit
""")
LEFT_OVER = (
    """
    DELETE FROM pipelines.backfills b USING pipelines.pipelines p
    WHERE p.name = b.pipeline AND (p.keep_runs IS NOT NULL OR p.keep_days IS NOT NULL)
      AND NOT EXISTS (SELECT FROM pipelines.runs r WHERE r.backfill_id = b.id)
      AND b.created_at < now() - interval '1 day'
    """,
    """
    DELETE FROM pipelines.pools p WHERE p.name ~ '^backfill-[0-9]+$'
      AND NOT EXISTS (SELECT FROM pipelines.backfills b WHERE b.pool = p.name)
    """,
    """
    DELETE FROM pipelines.skips s USING pipelines.pipelines p
    WHERE p.name = s.pipeline AND s.at < now() - make_interval(days => p.keep_days::int)
    """,
    """
    DELETE FROM pipelines.definitions d WHERE d.created_at < now() - interval '1 day'
      AND NOT EXISTS (SELECT FROM pipelines.runs r WHERE r.definition_sha256 = d.sha256)
      AND NOT EXISTS (SELECT FROM pipelines.pipelines p WHERE p.definition_sha256 = d.sha256)
    """,
    "DELETE FROM pipelines.workers WHERE beat_at < now() - interval '1 day'",
)


@dataclass(frozen=True)
class OldRun:
    """A run that its pipeline no longer keeps."""

    id: int
    pipeline: str
    state: str
    ended_at: datetime


@dataclass(frozen=True)
class Removal:
    """What an attempt has left that no row names any more."""

    path: str
    worker: str  #: that left it, or used it last


def old_runs(connection: sa.Connection, *, limit: int = RUNS) -> tuple[OldRun, ...]:
    """The runs that `let_go` would delete now, the oldest first, at most *limit*."""
    found = connection.execute(OLD, {"limit": limit, "event_seconds": EVENT_SECONDS})
    return tuple(OldRun(*row) for row in found)


def let_go(connection: sa.Connection, *, limit: int = RUNS) -> tuple[OldRun, ...]:
    """Delete at most *limit* runs that their pipelines no longer keep, with what else is left over; returns them.

    What they have left on disks is noted, and found by `due_removals` once this is committed.
    """
    old = {each.id: each for each in old_runs(connection, limit=limit)}
    ids = list(connection.execute(HOLD, {"ids": list(old)}).scalars())
    if ids:
        connection.execute(NOTE_FILES, {"ids": ids, "reuse_seconds": REUSE_SECONDS})
        connection.execute(NOTE_EVENTS, {"ids": ids, "event_seconds": EVENT_SECONDS})
        connection.execute(DELETE_RUNS, {"ids": ids})
        connection.execute(KEEP_USED)
    connection.execute(FORGET_EVENTS, {"event_seconds": EVENT_SECONDS})
    for statement in LEFT_OVER:
        connection.execute(sa.text(statement))
    return tuple(old[each] for each in ids)


def due_removals(connection: sa.Connection, below: str, *, after: str = "", limit: int = PAGE) -> tuple[Removal, ...]:
    """What is to be removed now of files whose paths begin with *below*, by path, at most *limit* behind *after*.

    Nothing that a row names again is among it.
    """
    if not after:
        connection.execute(KEEP_USED)
    return tuple(Removal(*row) for row in connection.execute(DUE, {"below": below, "after": after, "limit": limit}))


def removed(connection: sa.Connection, paths: Iterable[str]) -> None:
    """Forget what is gone."""
    connection.execute(sa.text("DELETE FROM pipelines.removals WHERE path = ANY (:paths)"), {"paths": list(paths)})


def remove_later(connection: sa.Connection, paths: Iterable[str]) -> None:
    """Leave what could not be removed for an hour."""
    later = sa.text("""
    UPDATE pipelines.removals SET not_before = now() + make_interval(secs => :seconds) WHERE path = ANY (:paths)
    """)
    connection.execute(later, {"paths": list(paths), "seconds": AGAIN_SECONDS})
