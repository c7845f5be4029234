"""What others are to be told: written with what it is about, taken and sent afterwards, at least once, with one key each time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from pipelines.store.database import notify
from pipelines.store.records import Json, Message
from pipelines.store.tables import OUTBOX

TAKEN_SECONDS = 30  # for one who takes to send; then it is another's to send
MOST_SECONDS = 3600


@dataclass(frozen=True)
class Taken:
    """A message that is ours to send for half a minute."""

    id: int
    key: str
    kind: str
    body: Json
    tries: int  #: this one included


def post(connection: sa.Connection, messages: Sequence[Message]) -> None:
    """Have *messages* sent once this transaction is committed; one whose key waits already is the same."""
    if not messages:
        return
    rows = [{"key": each.key, "kind": each.kind, "body": each.body} for each in messages]
    connection.execute(insert(OUTBOX).values(rows).on_conflict_do_nothing())
    notify(connection, "outbox")


def take_messages(connection: sa.Connection, limit: int = 20, *, kind: str | None = None) -> tuple[Taken, ...]:
    """Messages that are due, the oldest first, all or of one kind. Commit, send them, then call `sent` for those that went.

    One with a `key` in its body waits for older ones of that key: that something is over is not told before that it began.
    """
    older = OUTBOX.alias()
    is_behind = sa.exists().where(
        older.c.kind == OUTBOX.c.kind,
        older.c.body["key"].astext == OUTBOX.c.body["key"].astext,
        older.c.id < OUTBOX.c.id,
        older.c.not_before > sa.func.now(),
    )
    due = (
        sa.select(OUTBOX.c.id)
        .where(OUTBOX.c.not_before <= sa.func.now(), *([] if kind is None else [OUTBOX.c.kind == kind]), ~is_behind)
        .order_by(OUTBOX.c.not_before, OUTBOX.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    # One that cannot be sent is tried again later and later.
    wait = sa.func.least(TAKEN_SECONDS * sa.func.power(2, sa.func.least(OUTBOX.c.tries, 10)), MOST_SECONDS)
    taken = (
        sa.update(OUTBOX)
        .where(OUTBOX.c.id.in_(due))
        .values(tries=OUTBOX.c.tries + 1, not_before=sa.func.now() + wait * sa.literal(timedelta(seconds=1)))
        .returning(OUTBOX.c.id, OUTBOX.c.key, OUTBOX.c.kind, OUTBOX.c.body, OUTBOX.c.tries)
    )
    return tuple(sorted((Taken(*row) for row in connection.execute(taken)), key=lambda each: each.id))


def sent(connection: sa.Connection, ids: Iterable[int]) -> None:
    """Forget messages that were sent."""
    connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id.in_(list(ids))))
