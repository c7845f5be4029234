"""How far triggers have come whose events have no time: offsets of Kafka, a snapshot of the warehouse."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; without a value, a trigger begins where it looks first."""
    op.execute("ALTER TABLE pipelines.schedules ADD COLUMN position json")
