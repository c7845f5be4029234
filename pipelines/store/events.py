"""What happened in a run, in the order in which it became visible: who has read up to an id has missed nothing before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pipelines.store.database import CHANNEL
from pipelines.store.records import Event
from pipelines.store.tables import EVENTS

# Ids are given when a row is written, rows are seen when their transaction ends. Without the lock a reader could see
# event 8 before 7 and never ask for 7 again.
ONE_AFTER_ANOTHER = sa.text(f"""
SELECT pg_advisory_xact_lock(hashtextextended('pipelines.events', :run_id)), pg_notify('{CHANNEL}', 'run ' || :run_id)
""")


def append_events(
    connection: sa.Connection,
    run_id: int,
    events: Sequence[Event],
    *,
    step: str | None = None,
    attempt: int | None = None,
) -> None:
    """Write *events* of the run; `attempt` is the number of it, `step` the name."""
    if not events:
        return
    connection.execute(ONE_AFTER_ANOTHER, {"run_id": run_id})
    common = {"run_id": run_id, "step": step, "attempt": attempt, "at": sa.func.clock_timestamp()}
    rows = [{**common, "kind": event.kind, "body": event.body} for event in events]
    connection.execute(sa.insert(EVENTS).values(rows))


def read_events(connection: sa.Connection, run_id: int, *, after: int = 0, limit: int = 1000) -> Sequence[sa.Row[Any]]:
    """Events of a run with an id above *after*: id, step, attempt, kind, body, at."""
    found = sa.select(EVENTS).where(EVENTS.c.run_id == run_id, EVENTS.c.id > after).order_by(EVENTS.c.id).limit(limit)
    return connection.execute(found).all()


def storable(text: str, most: int) -> str:
    """The end of *text*, at most so many characters, without what PostgreSQL's text cannot hold: NUL and lone surrogates."""
    return text[-most:].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


def database_time(connection: sa.Connection) -> datetime:
    """What the clock of the database says: the only one that leases and schedules are held against."""
    found: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return found
