"""Events whose runs are gone, as long as a trigger may see them again."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

TABLE = """
CREATE TABLE pipelines.past_events (
  key       text PRIMARY KEY,
  pipeline  text NOT NULL,
  at        timestamptz NOT NULL
);
"""
INDEX = "CREATE INDEX past_events_of_pipeline ON pipelines.past_events (pipeline, at)"


def upgrade() -> None:
    """Called by Alembic."""
    op.execute(TABLE)
    op.execute(INDEX)
