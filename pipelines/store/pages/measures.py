"""What is measured of pipelines: ends of runs, the queue, and messages that wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

OVERLAP = timedelta(minutes=1)  #: a transaction that ends a run is committed later than the time that it wrote
AT_ONCE = 5000
ENDED = sa.text("""
SELECT id, pipeline, state, ended_at FROM pipelines.runs
WHERE ended_at >= :at AND (ended_at, id) > (:at, :id) ORDER BY ended_at, id LIMIT :most
""")
SUCCEEDED = sa.text("""
SELECT p.name, (
  SELECT extract(epoch FROM r.ended_at) FROM pipelines.runs r
  WHERE r.pipeline = p.name AND r.state = 'succeeded' ORDER BY r.id DESC LIMIT 1
), EXISTS (SELECT FROM pipelines.schedules s WHERE s.pipeline = p.name) FROM pipelines.pipelines p ORDER BY p.name LIMIT :most
""")
QUEUE = sa.text("""
SELECT count(*) FILTER (WHERE worker IS NULL AND not_before <= now()),
       count(*) FILTER (WHERE worker IS NOT NULL),
       coalesce(extract(epoch FROM now() - min(not_before) FILTER (WHERE worker IS NULL AND not_before <= now())), 0)
FROM pipelines.queue
""")
OUTBOX = sa.text("SELECT count(*) FROM pipelines.outbox WHERE tries > 1")


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    id: int
    pipeline: str
    state: str
    at: datetime


@dataclass(frozen=True)
class Measures:
    """What is so now."""

    succeeded: Mapping[str, float]  #: by pipeline, in seconds since 1970; only those that ever have
    pipelines: tuple[str, ...]
    scheduled: frozenset[str]  #: those with a schedule or a trigger; a scheduler takes these away with their files
    waiting: int  #: steps that may run
    running: int
    oldest_seconds: float  #: of those that wait
    undelivered: int  #: messages that have been tried in vain


def read_ended(
    connection: sa.Connection, since: datetime | None, *, at_once: int = AT_ONCE
) -> tuple[list[Ended], datetime]:
    """Runs that ended since a minute before *since*, of which some are read twice; and the time of the database.

    Args:
        connection: to the store.
        since: the time that the last look has given; without, now. A clock that was ahead then counts as that of now.
        at_once: rows that are asked for at once.
    """
    now: datetime = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
    ended: list[Ended] = []
    after = (min(since or now, now) - OVERLAP, 0)
    while True:
        page = connection.execute(ENDED, {"at": after[0], "id": after[1], "most": at_once})
        found = [Ended(*row) for row in page]
        ended += found
        if len(found) < at_once:
            return ended, now
        after = (found[-1].at, found[-1].id)


def read_measures(connection: sa.Connection, most: int) -> Measures:
    """All of it; of pipelines the first by name, at most so many."""
    rows = connection.execute(SUCCEEDED, {"most": most}).all()
    found = {name: at for name, at, _ in rows}
    scheduled = frozenset(name for name, _, is_scheduled in rows if is_scheduled)
    waiting, running, oldest = connection.execute(QUEUE).one()
    undelivered = connection.scalar(OUTBOX) or 0
    succeeded = {name: float(at) for name, at in found.items() if at is not None}
    return Measures(succeeded, tuple(found), scheduled, waiting, running, float(oldest), undelivered)
