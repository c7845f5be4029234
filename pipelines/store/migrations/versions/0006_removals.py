"""Files that nobody's rows name any more, until they are gone; and runs are found by their ends."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

TABLE = """
CREATE TABLE pipelines.removals (
  path        text PRIMARY KEY,
  worker      text NOT NULL,
  not_before  timestamptz NOT NULL
);
"""
INDEX = "CREATE INDEX runs_ended ON pipelines.runs (ended_at) WHERE ended_at IS NOT NULL"


def upgrade() -> None:
    """Called by Alembic."""
    op.execute(TABLE)
    op.execute(INDEX)
