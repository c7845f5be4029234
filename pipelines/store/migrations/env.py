"""What Alembic runs for a migration: on the connection, and in the transaction, that it is handed."""

from __future__ import annotations

from alembic import context

from pipelines.store.tables import METADATA, SCHEMA

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table_schema=SCHEMA
)
context.run_migrations()
