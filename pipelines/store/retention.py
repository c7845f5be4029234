"""Old runs are let go, as their pipelines say; the last failure of each stays, and what is still shown or reused."""

from __future__ import annotations

import sqlalchemy as sa

RUNS = 500  # in one transaction: others wait for none of it, but it should not be long
# The same event may be seen, or sent, again for some minutes: the key of its run is what makes it one run.
EVENT_SECONDS = 3600.0
OLD = sa.text("""
WITH ranked AS (
  SELECT r.id, r.ended_at, p.keep_runs, p.keep_days,
         row_number() OVER (PARTITION BY r.pipeline ORDER BY r.id DESC) AS place,
         r.id = max(r.id) FILTER (WHERE r.state NOT IN ('succeeded', 'skipped', 'cancelled', 'queued', 'running'))
           OVER (PARTITION BY r.pipeline) AS is_last_failure,
         r.trigger = 'event' AND r.created_at > now() - make_interval(secs => :event_seconds) AS is_recent_event
  FROM pipelines.runs r JOIN pipelines.pipelines p ON p.name = r.pipeline
  WHERE p.keep_runs IS NOT NULL OR p.keep_days IS NOT NULL
)
SELECT id FROM ranked
WHERE ended_at IS NOT NULL AND is_last_failure IS NOT TRUE AND NOT is_recent_event
  AND (place > keep_runs OR ended_at < now() - make_interval(days => keep_days::int))
ORDER BY id LIMIT :limit
""")
# A run that is being repaired at this moment has no end any more.
DELETE_RUNS = sa.text("""
DELETE FROM pipelines.runs WHERE id IN (
  SELECT id FROM pipelines.runs WHERE id = ANY (:ids) AND ended_at IS NOT NULL FOR UPDATE SKIP LOCKED
) RETURNING id
""")
PATHS = sa.text("""
SELECT DISTINCT output_path FROM pipelines.attempts WHERE run_id = ANY (:ids) AND output_path IS NOT NULL ORDER BY 1
""")
STILL_USED = sa.text("SELECT DISTINCT output_path FROM pipelines.attempts WHERE output_path = ANY (:paths)")
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


def let_go(connection: sa.Connection, *, limit: int = RUNS) -> tuple[int, tuple[str, ...]]:
    """Delete at most *limit* runs that their pipelines no longer keep; returns how many, and the paths that are nobody's now.

    Commit before the files are removed: a file without a row is only litter, a row without its file would be a lie.
    """
    ids = list(connection.execute(OLD, {"limit": limit, "event_seconds": EVENT_SECONDS}).scalars())
    paths = list(connection.execute(PATHS, {"ids": ids}).scalars())
    gone = connection.execute(DELETE_RUNS, {"ids": ids}).scalars().all()
    for statement in LEFT_OVER:
        connection.execute(sa.text(statement))
    # A step that reused an output names the same file.
    used = set(connection.execute(STILL_USED, {"paths": paths}).scalars())
    return len(gone), tuple(path for path in paths if path not in used)
