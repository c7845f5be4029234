"""Alerts of runs: one for the end of a run becomes one message for each channel, which waits or is sent by itself."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from pipelines.states import State
from pipelines.store.outbox import Taken, post, sent, take_messages
from pipelines.store.records import Json, Message
from pipelines.store.runs.moves import GOOD
from pipelines.store.tables import ATTEMPTS, DEFINITIONS, OUTBOX, RUNS, STEPS
from pipelines.store.troubles import Trouble, end_trouble, note_trouble

KIND = "alert"
TO = "alert-to:"  #: a channel's name follows
REFUSED = "refused"  #: in the body of a message that its channel has refused
IS_PARKED = OUTBOX.c.body[REFUSED].astext.is_not(None)
AT_ONCE = 100
MOST_CAUSES = 3
ERROR_CHARACTERS = 500


def tell_end(connection: sa.Connection, run: sa.Row[Any], end: State, reason: str | None) -> None:
    """Have people told of the end of a run, as its definition says, and that a pipeline which has failed works again."""
    rule = _rule(connection, run.definition_sha256)
    # Who cancels knows it, unless the definition asks.
    is_failure = end not in GOOD and end is not State.CANCELLED
    is_asked = end in rule.get("on", [end] if is_failure else [])
    over = end_trouble(connection, run.pipeline) if end is State.SUCCEEDED else None
    if is_failure and is_asked and rule.get("to"):
        note_trouble(connection, run.pipeline, Trouble(run.id, tuple(rule["to"])))
    if not (is_failure or is_asked or over):
        return
    body = {
        "run": run.id,
        "pipeline": run.pipeline,
        "state": end,
        "reason": reason,
        "trigger": run.trigger,
        "instant": run.instant.isoformat() if run.instant else None,
        "partition": run.partition,
    }
    if over:
        body |= {"failed_before": over.run_id, "channels": [*over.channels, *(rule.get("to", ()) if is_asked else ())]}
    post(connection, [Message(f"alert/{run.key}/{run.repairs}", KIND, body)])


def hand_out(connection: sa.Connection) -> int:
    """Make of each alert one message for each of its channels, in one transaction; returns how many alerts there were."""
    taken = take_messages(connection, AT_ONCE, kind=KIND)
    for each in taken:
        body = {**each.body, "causes": _causes(connection, each.body["run"])}
        channels = body.pop("channels", None)
        names = dict.fromkeys(_channels(connection, body) if channels is None else channels)
        post(connection, [Message(f"{each.key}/{name}", TO + name, body) for name in names])
    sent(connection, [each.id for each in taken])
    return len(taken)


def due_channels(connection: sa.Connection) -> tuple[str, ...]:
    """The channels for which messages are due."""
    due = sa.select(OUTBOX.c.kind).distinct().where(OUTBOX.c.kind.startswith(TO), OUTBOX.c.not_before <= sa.func.now())
    return tuple(sorted(kind.removeprefix(TO) for kind in connection.scalars(due)))


def park(connection: sa.Connection, refused: Sequence[Taken]) -> None:
    """A channel has refused these messages: they wait by themselves, and not with others for the channel."""
    for each in refused:
        body = {**each.body, REFUSED: True}
        connection.execute(sa.update(OUTBOX).where(OUTBOX.c.id == each.id).values(body=body))


def wait_together(connection: sa.Connection, channel: str) -> None:
    """A channel is down: all that waits for it waits until the last of it is due, so that it is tried at once."""
    waits = OUTBOX.c.kind == TO + channel, ~IS_PARKED
    last = sa.select(sa.func.max(OUTBOX.c.not_before)).where(*waits).scalar_subquery()
    connection.execute(sa.update(OUTBOX).where(*waits).values(not_before=last))


def wait_no_longer(connection: sa.Connection, channel: str, *, but: Collection[int] = (), parked: bool = False) -> None:
    """A channel is there again: what has waited for it is due now.

    Args:
        connection: in a transaction.
        channel: its name.
        but: messages that it has just refused.
        parked: whether those that it has refused before are due, too.
    """
    waits = [OUTBOX.c.kind == TO + channel, OUTBOX.c.tries > 0, OUTBOX.c.not_before > sa.func.now()]
    waits += [OUTBOX.c.id.not_in(but), *([] if parked else [~IS_PARKED])]
    connection.execute(sa.update(OUTBOX).where(*waits).values(not_before=sa.func.now()))


def _channels(connection: sa.Connection, body: Json) -> tuple[str, ...]:
    """Those that the definition of the run names for such an end."""
    sha256 = connection.scalar(sa.select(RUNS.c.definition_sha256).where(RUNS.c.id == body["run"]))
    rule = _rule(connection, sha256) if sha256 else {}
    return tuple(rule.get("to", ())) if body["state"] in rule.get("on", (body["state"],)) else ()


def _rule(connection: sa.Connection, definition_sha256: str) -> dict[str, Any]:
    body = connection.scalar(sa.select(DEFINITIONS.c.body).where(DEFINITIONS.c.sha256 == definition_sha256))
    rule = json.loads(body).get("alerts") if body else None
    return dict(rule) if rule else {}


def _causes(connection: sa.Connection, run_id: int) -> list[Json]:
    """The last attempt of the first steps that did not succeed: what is shown of a failure, without what was printed."""
    last = sa.select(sa.func.max(ATTEMPTS.c.number)).where(ATTEMPTS.c.step_id == STEPS.c.id).correlate(STEPS)
    found = (
        sa.select(STEPS.c.name, STEPS.c.state, ATTEMPTS.c.cell, ATTEMPTS.c.error)
        .join(ATTEMPTS, ATTEMPTS.c.step_id == STEPS.c.id)
        .where(STEPS.c.run_id == run_id, STEPS.c.state.not_in(GOOD), ATTEMPTS.c.number == last.scalar_subquery())
        .order_by(STEPS.c.position)
        .limit(MOST_CAUSES)
    )
    return [
        {"step": name, "state": state, "cell": cell, "error": error[:ERROR_CHARACTERS] if error else None}
        for name, state, cell, error in connection.execute(found)
    ]
