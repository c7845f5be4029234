"""Attempts that go on from a checkpoint of an earlier one."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

# At the end of each table, and with a default: rows that are there have resumed nothing.
COLUMNS = """
ALTER TABLE pipelines.steps ADD COLUMN resume_after bigint NOT NULL DEFAULT 0;
ALTER TABLE pipelines.attempts ADD COLUMN resumed_from bigint;
"""


def upgrade() -> None:
    """Called by Alembic."""
    op.execute(COLUMNS)
