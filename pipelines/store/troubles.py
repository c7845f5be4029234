"""What people are told of a pipeline beside the ends of its runs: that it works again, and that a run takes too long."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from pipelines.store.events import append_events
from pipelines.store.outbox import post
from pipelines.store.records import Event, Json, Message

# In the place of the state of a run that has ended; each is a field of `alerts`, which says after how long.
LATE = "late"  #: it has not begun so long after its instant
SLOW = "slow"  #: it has not ended so long after it began, or was repaired
OVERDUE = "overdue"  #: it has not ended so long after its instant

NOTE = sa.text("""
INSERT INTO pipelines.troubles AS t (pipeline, run_id, channels) VALUES (:pipeline, :run_id, :channels)
ON CONFLICT (pipeline) DO UPDATE SET run_id = excluded.run_id,
  channels = ARRAY(SELECT DISTINCT unnest(t.channels || excluded.channels))
""")
END = sa.text("DELETE FROM pipelines.troubles WHERE pipeline = :pipeline RETURNING run_id, channels")

# Of several schedulers one looks at a time: each sees what the one before has told.
ONE_AT_A_TIME = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('pipelines.late', 0))")
# Runs of a backfill are of instants that are over, and so is whatever is repaired.
TOO_LONG = sa.text("""
SELECT r.id, r.key, r.pipeline, r.trigger, r.instant, r.partition, r.repairs, d.body, w.word,
  extract(epoch FROM clock_timestamp() - w.since)::double precision AS waits
FROM pipelines.runs r JOIN pipelines.definitions d ON d.sha256 = r.definition_sha256
CROSS JOIN LATERAL (VALUES
  ('late', coalesce(r.instant, r.created_at), r.started_at IS NULL AND r.backfill_id IS NULL AND r.repairs = 0),
  ('slow', greatest(r.started_at, (SELECT max(e.at) FROM pipelines.events e WHERE e.run_id = r.id AND e.kind = 'repair')),
    r.started_at IS NOT NULL),
  ('overdue', coalesce(r.instant, r.created_at), r.backfill_id IS NULL AND r.repairs = 0)
) AS w (word, since, counts)
WHERE r.ended_at IS NULL AND w.counts
  -- As JSON it cannot be read when a text in it has NUL; whether it is the field of alerts is looked at below.
  AND position('"' || w.word || '":' IN d.body) > 0
  AND NOT EXISTS (
    SELECT FROM pipelines.events e WHERE e.run_id = r.id AND e.kind = w.word
      AND coalesce((e.body ->> 'repairs')::bigint, 0) = r.repairs
  )
ORDER BY r.id, w.word
""")


@dataclass(frozen=True)
class Trouble:
    """A failure that people were told of."""

    run_id: int  #: the last that failed
    channels: tuple[str, ...]  #: that were told


def note_trouble(connection: sa.Connection, pipeline: str, trouble: Trouble) -> None:
    """Keep that people are told of a failure, until the pipeline succeeds again."""
    values = {"pipeline": pipeline, "run_id": trouble.run_id, "channels": list(trouble.channels)}
    connection.execute(NOTE, values)


def end_trouble(connection: sa.Connection, pipeline: str) -> Trouble | None:
    """What is over now that a run has succeeded: told to nobody else, since it is given once."""
    found = connection.execute(END, {"pipeline": pipeline}).one_or_none()
    return None if found is None else Trouble(found.run_id, tuple(found.channels))


def tell_too_long(connection: sa.Connection, seconds_of: Callable[[str], float]) -> int:
    """Alert of each run that has not begun or ended when its definition says, once for each word; returns how many alerts.

    Args:
        connection: in a transaction.
        seconds_of: reads a duration as definitions have it, such as `1h30m`.
    """
    connection.execute(ONE_AT_A_TIME)
    messages = []
    for run in connection.execute(TOO_LONG).all():
        rule: Json = json.loads(run.body).get("alerts") or {}
        after = rule.get(run.word)
        if after is None or run.waits < seconds_of(after):
            continue
        body = {
            "run": run.id,
            "pipeline": run.pipeline,
            "state": run.word,
            "trigger": run.trigger,
            "instant": run.instant.isoformat() if run.instant else None,
            "partition": run.partition,
            run.word: after,
            "channels": rule.get("to", []),
        }
        append_events(connection, run.id, [Event(run.word, {"after": after, "repairs": run.repairs})])
        messages.append(Message(f"{run.word}/{run.key}/{run.repairs}", "alert", body))
    post(connection, messages)
    return len(messages)
