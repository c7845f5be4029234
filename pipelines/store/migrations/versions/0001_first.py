"""The first tables."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE pipelines.definitions (
  sha256      text PRIMARY KEY,
  body        text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pipelines.pipelines (
  name               text PRIMARY KEY,
  definition_sha256  text NOT NULL REFERENCES pipelines.definitions,
  max_runs           bigint CHECK (max_runs > 0),
  keep_runs          bigint CHECK (keep_runs >= 0),
  keep_days          bigint CHECK (keep_days >= 0),
  updated_at         timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pipelines.pools (
  name    text PRIMARY KEY,
  size    bigint NOT NULL CHECK (size >= 0),
  paused  boolean NOT NULL DEFAULT false
);
CREATE TABLE pipelines.workers (
  id          text PRIMARY KEY,
  host        text NOT NULL,
  pid         bigint NOT NULL,
  version     text NOT NULL,
  slots       bigint NOT NULL,
  started_at  timestamptz NOT NULL DEFAULT now(),
  beat_at     timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pipelines.schedules (
  pipeline   text NOT NULL REFERENCES pipelines.pipelines ON DELETE CASCADE,
  name       text NOT NULL,
  cursor     timestamptz NOT NULL,
  next_at    timestamptz,
  paused     boolean NOT NULL DEFAULT false,
  paused_by  text,
  paused_at  timestamptz,
  PRIMARY KEY (pipeline, name)
);
CREATE TABLE pipelines.skips (
  pipeline  text NOT NULL,
  schedule  text NOT NULL,
  instant   timestamptz NOT NULL,
  reason    text NOT NULL,
  at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (pipeline, schedule, instant)
);
CREATE TABLE pipelines.backfills (
  id            bigserial PRIMARY KEY,
  pipeline      text NOT NULL,
  pool          text NOT NULL,
  reprocess     text NOT NULL,
  requested_by  text NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pipelines.runs (
  id                 bigserial PRIMARY KEY,
  key                text NOT NULL CONSTRAINT runs_key UNIQUE,
  pipeline           text NOT NULL REFERENCES pipelines.pipelines,
  trigger            text NOT NULL,
  instant            timestamptz,
  event_id           text,
  partition          text,
  backfill_id        bigint REFERENCES pipelines.backfills,
  definition_sha256  text NOT NULL REFERENCES pipelines.definitions,
  git_commit         text,
  notebook_hashes    json NOT NULL,
  lock_hash          text,
  parameters         json NOT NULL,
  run_as             text,
  requested_by       text,
  priority           bigint NOT NULL,
  timeout_seconds    bigint,
  state              text NOT NULL DEFAULT 'queued',
  reason             text,
  stop               text,
  stop_reason        text,
  repairs            bigint NOT NULL DEFAULT 0,
  created_at         timestamptz NOT NULL DEFAULT now(),
  started_at         timestamptz,
  ended_at           timestamptz,
  deadline           timestamptz
);
CREATE TABLE pipelines.steps (
  id             bigserial PRIMARY KEY,
  run_id         bigint NOT NULL REFERENCES pipelines.runs ON DELETE CASCADE,
  name           text NOT NULL,
  position       bigint NOT NULL,
  after          text[] NOT NULL,
  pools          text[] NOT NULL,
  retries        json NOT NULL,
  state          text NOT NULL DEFAULT 'queued',
  reason         text,
  attempts       bigint NOT NULL DEFAULT 0,
  first_attempt  bigint NOT NULL DEFAULT 1,
  hash           text,
  output_path    text,
  started_at     timestamptz,
  ended_at       timestamptz,
  CONSTRAINT steps_name UNIQUE (run_id, name)
);
CREATE TABLE pipelines.attempts (
  id                 bigserial PRIMARY KEY,
  run_id             bigint NOT NULL REFERENCES pipelines.runs ON DELETE CASCADE,
  step_id            bigint NOT NULL REFERENCES pipelines.steps ON DELETE CASCADE,
  number             bigint NOT NULL,
  worker             text NOT NULL,
  state              text NOT NULL,
  cell               bigint,
  error              text,
  last_lines         text,
  signal             bigint,
  peak_memory_bytes  bigint,
  output_path        text,
  reused_from        bigint,
  started_at         timestamptz NOT NULL,
  ended_at           timestamptz,
  CONSTRAINT attempts_number UNIQUE (step_id, number)
);
CREATE TABLE pipelines.events (
  id       bigserial PRIMARY KEY,
  run_id   bigint NOT NULL REFERENCES pipelines.runs ON DELETE CASCADE,
  step     text,
  attempt  bigint,
  kind     text NOT NULL,
  body     json NOT NULL,
  at       timestamptz NOT NULL
);
-- Rows change often and go soon: room in each page for their next version, and vacuum before there are many.
CREATE TABLE pipelines.queue (
  step_id      bigint PRIMARY KEY REFERENCES pipelines.steps ON DELETE CASCADE,
  run_id       bigint NOT NULL,
  pipeline     text NOT NULL,
  pools        text[] NOT NULL,
  lane         smallint NOT NULL,
  priority     bigint NOT NULL,
  not_before   timestamptz NOT NULL DEFAULT now(),
  worker       text,
  attempt_id   bigint,
  lease_until  timestamptz,
  CONSTRAINT queue_claimed CHECK ((worker IS NULL) = (attempt_id IS NULL) AND (worker IS NULL) = (lease_until IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.05);
CREATE TABLE pipelines.outbox (
  id          bigserial PRIMARY KEY,
  key         text NOT NULL CONSTRAINT outbox_key UNIQUE,
  kind        text NOT NULL,
  body        json NOT NULL,
  tries       bigint NOT NULL DEFAULT 0,
  created_at  timestamptz NOT NULL DEFAULT now(),
  not_before  timestamptz NOT NULL DEFAULT now()
);
"""
INDEXES = """
CREATE INDEX runs_of_pipeline ON pipelines.runs (pipeline, id);
CREATE INDEX runs_running ON pipelines.runs (pipeline) WHERE state = 'running';
CREATE INDEX runs_stopping ON pipelines.runs (id) WHERE stop IS NOT NULL AND ended_at IS NULL;
CREATE INDEX runs_deadline ON pipelines.runs (deadline) WHERE ended_at IS NULL;
CREATE INDEX runs_of_partition ON pipelines.runs (pipeline, partition, id) WHERE partition IS NOT NULL;
CREATE INDEX runs_of_backfill ON pipelines.runs (backfill_id) WHERE backfill_id IS NOT NULL;
CREATE INDEX runs_definition ON pipelines.runs (definition_sha256);
CREATE INDEX steps_reusable ON pipelines.steps (hash) WHERE state = 'succeeded';
CREATE INDEX attempts_of_run ON pipelines.attempts (run_id);
CREATE INDEX attempts_output ON pipelines.attempts (output_path) WHERE output_path IS NOT NULL;
CREATE INDEX events_of_run ON pipelines.events (run_id, id);
CREATE INDEX queue_waiting ON pipelines.queue (lane, priority DESC, run_id, step_id) WHERE worker IS NULL;
CREATE INDEX queue_claimed_by ON pipelines.queue (worker) WHERE worker IS NOT NULL;
CREATE INDEX queue_of_run ON pipelines.queue (run_id);
CREATE INDEX outbox_due ON pipelines.outbox (not_before, id);
CREATE INDEX schedules_due ON pipelines.schedules (next_at) WHERE NOT paused;
"""


def upgrade() -> None:
    """Make all tables and their indexes."""
    op.execute(TABLES)
    op.execute(INDEXES)
