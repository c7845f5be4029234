"""What goes on: pipelines with their last runs, the queue and its pools, workers, what comes next, what was skipped."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pipelines.store.records import LEASE_SECONDS
from pipelines.store.tables import SKIPS
from workbench.storable import UNSTORABLE

Row = dict[str, Any]
# NUL and halves of surrogate pairs as JSON writes them: behind an even number of backslashes, of which each pair is one of the text.
ESCAPED = re.compile(r"(?<!\\)((?:\\\\)*)\\u(?:0000|d[89a-f][0-9a-f]{2})", re.IGNORECASE)
# Definitions are read here: what PostgreSQL cannot read in one of them would end the whole query.
PIPELINES = sa.text("""
SELECT p.name, p.definition_sha256, p.max_runs, p.updated_at, coalesce(last.runs, '[]'::json) AS runs,
       d.body, (SELECT min(next_at) FROM pipelines.schedules s WHERE s.pipeline = p.name AND NOT s.paused) AS next_at,
       EXISTS (SELECT FROM pipelines.schedules s WHERE s.pipeline = p.name AND s.paused) AS paused
FROM pipelines.pipelines p JOIN pipelines.definitions d ON d.sha256 = p.definition_sha256
LEFT JOIN LATERAL (
  SELECT json_agg(json_build_object('id', r.id, 'state', r.state) ORDER BY r.id DESC) AS runs
  FROM (SELECT id, state FROM pipelines.runs WHERE pipeline = p.name ORDER BY id DESC LIMIT :last) r
) last ON true
ORDER BY p.name
""")
OWNER = sa.text("""
SELECT d.body FROM pipelines.pipelines p
JOIN pipelines.definitions d ON d.sha256 = p.definition_sha256 WHERE p.name = :pipeline
""")
SCHEDULES = sa.text("""
SELECT s.*, d.body
FROM pipelines.schedules s JOIN pipelines.pipelines p ON p.name = s.pipeline
JOIN pipelines.definitions d ON d.sha256 = p.definition_sha256
ORDER BY s.next_at, s.pipeline, s.name LIMIT :limit
""")
POOLS = sa.text("""
SELECT p.name, p.size, p.paused, coalesce(held.used, 0) AS used, coalesce(held.waiting, 0) AS waiting
FROM pipelines.pools p LEFT JOIN (
  SELECT pool, count(*) FILTER (WHERE worker IS NOT NULL) AS used, count(*) FILTER (WHERE worker IS NULL) AS waiting
  FROM pipelines.queue, unnest(pools) AS pool GROUP BY pool
) held ON held.pool = p.name
ORDER BY p.name
""")
QUEUE = sa.text("""
SELECT q.step_id, q.run_id, q.pipeline, s.name AS step, q.pools, q.lane = 1 AS is_backfill, q.priority,
       q.worker, q.lease_until, q.not_before, r.created_at
FROM pipelines.queue q JOIN pipelines.steps s ON s.id = q.step_id JOIN pipelines.runs r ON r.id = q.run_id
ORDER BY q.worker IS NULL, q.lane, q.priority DESC, q.run_id, q.step_id LIMIT :limit
""")
WORKERS = sa.text("""
SELECT w.*, w.beat_at > clock_timestamp() - make_interval(secs => :lease) AS is_alive,
       (SELECT count(*) FROM pipelines.queue q WHERE q.worker = w.id) AS claims
FROM pipelines.workers w ORDER BY w.beat_at DESC
""")


@dataclass(frozen=True)
class QueuePage:
    """What runs, then what waits, in the order in which it is claimed; and the pools."""

    queue: list[Row]
    pools: list[Row]


def list_pipelines(connection: sa.Connection, *, last: int = 10) -> list[Row]:
    """All pipelines by name, each with owner, last `runs` (id and state, the newest first), and `next_at`.

    `problem` says what is wrong with the definition that the store has, such as one of an earlier version; else it is
    empty.
    """
    return [_pipeline(**row) for row in _rows(connection, PIPELINES, last=last)]


def read_owner(connection: sa.Connection, pipeline: str) -> str | None:
    """The `owner` of the pipeline's definition, empty when it has none; None when there is no such pipeline."""
    body = connection.execute(OWNER, {"pipeline": pipeline}).scalar_one_or_none()
    return None if body is None else str(_definition(body)[0].get("owner", ""))


def read_queue(connection: sa.Connection, *, limit: int = 200) -> QueuePage:
    """The queue and the pools with how much of each is used."""
    return QueuePage(_rows(connection, QUEUE, limit=limit), _rows(connection, POOLS))


def list_workers(connection: sa.Connection) -> list[Row]:
    """Workers, the last to beat first; one that is not alive has lost its claims, or is about to."""
    return _rows(connection, WORKERS, lease=LEASE_SECONDS)


def list_schedules(connection: sa.Connection, *, limit: int = 500) -> list[Row]:
    """Schedules and triggers, the next to come first, each with `cron` and `zone` of its pipeline's schedule."""
    return [_schedule(**row) for row in _rows(connection, SCHEDULES, limit=limit)]


def list_skips(
    connection: sa.Connection, pipeline: str, *, since: datetime | None = None, limit: int = 100
) -> list[Row]:
    """Instants that a schedule of the pipeline did not run, with the reason, the last first."""
    found = sa.select(SKIPS).where(SKIPS.c.pipeline == pipeline).order_by(SKIPS.c.instant.desc()).limit(limit)
    if since is not None:
        found = found.where(SKIPS.c.instant >= since)
    return [dict(row) for row in connection.execute(found).mappings()]


def _rows(connection: sa.Connection, query: sa.TextClause, **values: object) -> list[Row]:
    return [dict(row) for row in connection.execute(query, values).mappings()]


def _pipeline(*, body: str, **row: Any) -> Row:
    found, wrong = _definition(body)
    problem = f"Its definition has {wrong}; correct pipelines/jobs/{row['name']}.yaml." if wrong else ""
    return {**row, "owner": found.get("owner", ""), "description": found.get("description", ""), "problem": problem}


def _schedule(*, body: str, **row: Any) -> Row:
    rule = _definition(body)[0].get("schedule") or {}
    return {**row, "cron": rule.get("cron"), "zone": rule.get("zone")}


def _definition(body: str) -> tuple[Row, str]:
    """A definition that can be shown, and what it has that keeps it from that; empty when there is nothing."""
    shown, odd = ESCAPED.subn(r"\1\\ufffd", body)
    try:
        return json.loads(shown), UNSTORABLE if odd else ""
    except ValueError:
        return {}, "a form that is no JSON"
