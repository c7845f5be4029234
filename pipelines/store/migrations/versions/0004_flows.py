"""Flows that workers keep running."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

# The name is part of the names of files: whoever writes it here, it leads out of no folder.
TABLE = """
CREATE TABLE pipelines.flows (
  name          text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$'),
  desired       text NOT NULL CHECK (desired IN ('running', 'stopped')),
  asked_by      text NOT NULL,
  asked_at      timestamptz NOT NULL,
  generation    bigint NOT NULL,
  worker        text,
  fence         bigint NOT NULL,
  lease_until   timestamptz,
  state         text NOT NULL CHECK (state IN ('stopped', 'starting', 'running', 'waiting', 'failed')),
  state_at      timestamptz NOT NULL,
  reason        text,
  last_lines    text,
  restarts      bigint NOT NULL,
  failures      bigint NOT NULL,
  file_sha256   text,
  started_at    timestamptz,
  next_start_at timestamptz,
  CONSTRAINT flows_claimed CHECK (worker IS NOT NULL OR lease_until IS NULL)
)
"""


def upgrade() -> None:
    """Called by Alembic."""
    op.execute(TABLE)
