"""Failures that people were told of, until the pipeline succeeds again."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

TABLE = """
CREATE TABLE pipelines.troubles (
  pipeline  text PRIMARY KEY,
  run_id    bigint NOT NULL,
  channels  text[] NOT NULL
);
"""


def upgrade() -> None:
    """Called by Alembic."""
    op.execute(TABLE)
