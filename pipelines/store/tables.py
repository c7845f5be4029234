"""The tables as SQLAlchemy sees them; `migrations` makes them, and a test compares the two.

`queue` is small: a step stands in it from when it may run until it has ended. It is what workers
fight over, so nothing else is in it. All other tables of runs are history.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSON

SCHEMA = "pipelines"
METADATA = sa.MetaData(schema=SCHEMA)


def _table(name: str, *columns: sa.Column[Any] | sa.Constraint) -> sa.Table:
    return sa.Table(name, METADATA, *columns)


def _id(name: str = "id") -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=True)


def _text(name: str, *, null: bool = False, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null, primary_key=key)


def _time(name: str, *, null: bool = True, key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=null, primary_key=key)


def _number(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _json(name: str, *, null: bool = False) -> sa.Column[Any]:
    # Not jsonb: it refuses \u0000, which a notebook may print, and a parameter may be.
    return sa.Column(name, JSON(none_as_null=True), nullable=null)


def _of(name: str, target: str, *, null: bool = False, cascade: bool = True) -> sa.Column[int]:
    key = sa.ForeignKey(f"{SCHEMA}.{target}.id", ondelete="CASCADE" if cascade else None)
    return sa.Column(name, sa.BigInteger, key, nullable=null)


DEFINITIONS = _table("definitions", _text("sha256", key=True), _text("body"), _time("created_at", null=False))
PIPELINES = _table(
    "pipelines",
    _text("name", key=True),
    sa.Column("definition_sha256", sa.Text, sa.ForeignKey(f"{SCHEMA}.definitions.sha256"), nullable=False),
    _number("max_runs", null=True),
    _number("keep_runs", null=True),
    _number("keep_days", null=True),
    _time("updated_at", null=False),
)
POOLS = _table("pools", _text("name", key=True), _number("size"), _flag("paused"))
WORKERS = _table(
    "workers",
    _text("id", key=True),
    _text("host"),
    _number("pid"),
    _text("version"),
    _number("slots"),
    _time("started_at", null=False),
    _time("beat_at", null=False),
)
SCHEDULES = _table(
    "schedules",
    sa.Column("pipeline", sa.Text, sa.ForeignKey(f"{SCHEMA}.pipelines.name", ondelete="CASCADE"), primary_key=True),
    _text("name", key=True),
    _time("cursor", null=False),
    _time("next_at"),
    _flag("paused"),
    _text("paused_by", null=True),
    _time("paused_at"),
    _json("position", null=True),
)
SKIPS = _table(
    "skips",
    _text("pipeline", key=True),
    _text("schedule", key=True),
    _time("instant", null=False, key=True),
    _text("reason"),
    _time("at", null=False),
)
BACKFILLS = _table(
    "backfills",
    _id(),
    _text("pipeline"),
    _text("pool"),
    _text("reprocess"),
    _text("requested_by"),
    _time("created_at", null=False),
)
RUNS = _table(
    "runs",
    _id(),
    _text("key"),
    sa.Column("pipeline", sa.Text, sa.ForeignKey(f"{SCHEMA}.pipelines.name"), nullable=False),
    _text("trigger"),
    _time("instant"),
    _text("event_id", null=True),
    _text("partition", null=True),
    _of("backfill_id", "backfills", null=True, cascade=False),
    sa.Column("definition_sha256", sa.Text, sa.ForeignKey(f"{SCHEMA}.definitions.sha256"), nullable=False),
    _text("git_commit", null=True),
    _json("notebook_hashes"),
    _text("lock_hash", null=True),
    _json("parameters"),
    _text("run_as", null=True),
    _text("requested_by", null=True),
    _number("priority"),
    _number("timeout_seconds", null=True),
    _text("state"),
    _text("reason", null=True),
    _text("stop", null=True),
    _text("stop_reason", null=True),
    _number("repairs"),
    _time("created_at", null=False),
    _time("started_at"),
    _time("ended_at"),
    _time("deadline"),
    sa.UniqueConstraint("key", name="runs_key"),
)
STEPS = _table(
    "steps",
    _id(),
    _of("run_id", "runs"),
    _text("name"),
    _number("position"),
    sa.Column("after", ARRAY(sa.Text), nullable=False),
    sa.Column("pools", ARRAY(sa.Text), nullable=False),
    _json("retries"),
    _text("state"),
    _text("reason", null=True),
    _number("attempts"),
    _number("first_attempt"),
    _number("resume_after"),
    _text("hash", null=True),
    _text("output_path", null=True),
    _time("started_at"),
    _time("ended_at"),
    sa.UniqueConstraint("run_id", "name", name="steps_name"),
)
ATTEMPTS = _table(
    "attempts",
    _id(),
    _of("run_id", "runs"),
    _of("step_id", "steps"),
    _number("number"),
    _text("worker"),
    _text("state"),
    _number("cell", null=True),
    _text("error", null=True),
    _text("last_lines", null=True),
    _number("signal", null=True),
    _number("peak_memory_bytes", null=True),
    _text("output_path", null=True),
    _number("reused_from", null=True),
    _number("resumed_from", null=True),
    _time("started_at", null=False),
    _time("ended_at"),
    sa.UniqueConstraint("step_id", "number", name="attempts_number"),
)
EVENTS = _table(
    "events",
    _id(),
    _of("run_id", "runs"),
    _text("step", null=True),
    _number("attempt", null=True),
    _text("kind"),
    _json("body"),
    _time("at", null=False),
)
QUEUE = _table(
    "queue",
    sa.Column("step_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.steps.id", ondelete="CASCADE"), primary_key=True),
    _number("run_id"),
    _text("pipeline"),
    sa.Column("pools", ARRAY(sa.Text), nullable=False),
    sa.Column("lane", sa.SmallInteger, nullable=False),
    _number("priority"),
    _time("not_before", null=False),
    _text("worker", null=True),
    _number("attempt_id", null=True),
    _time("lease_until"),
)
OUTBOX = _table(
    "outbox",
    _id(),
    _text("key"),
    _text("kind"),
    _json("body"),
    _number("tries"),
    _time("created_at", null=False),
    _time("not_before", null=False),
    sa.UniqueConstraint("key", name="outbox_key"),
)
REMOVALS = _table("removals", _text("path", key=True), _text("worker"), _time("not_before", null=False))
# `key` is that of the run. `at` is when the run was made, or when its file changed, as far as a clock of files is ahead
# of ours: never before the time that the trigger has of the event, by which it sees it again.
PAST_EVENTS = _table("past_events", _text("key", key=True), _text("pipeline"), _time("at", null=False))
TROUBLES = _table(
    "troubles",
    _text("pipeline", key=True),
    _number("run_id"),
    sa.Column("channels", ARRAY(sa.Text), nullable=False),
)
# `worker` is who has it, or had it last: its machine has the log. It is held while `lease_until` is not over.
FLOWS = _table(
    "flows",
    _text("name", key=True),
    _text("desired"),
    _text("asked_by"),
    _time("asked_at", null=False),
    _number("generation"),
    _text("worker", null=True),
    _number("fence"),
    _time("lease_until"),
    _text("state"),
    _time("state_at", null=False),
    _text("reason", null=True),
    _text("last_lines", null=True),
    _number("restarts"),
    _number("failures"),
    _text("file_sha256", null=True),
    _time("started_at"),
    _time("next_start_at"),
)
