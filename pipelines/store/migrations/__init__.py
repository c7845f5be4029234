"""The tables of this version of the workbench, made or brought up to date: by one process at a time, or not at all."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from pipelines.store.tables import SCHEMA
from workbench.errors import StoreTooNew

HEAD = "0007"  #: the revision of this version; a test compares it with the newest of `versions`
LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('pipelines.migrate'))")


def migrate(connection: sa.Connection) -> None:
    """Bring the schema to this version; nothing happens when it is there. Several processes may do so at once.

    Args:
        connection: in a transaction, which holds all of it.

    Raises:
        StoreTooNew: when a newer version of the workbench has been here.
    """
    connection.execute(LOCK)
    connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
    if (found := read_revision(connection)) == HEAD:
        return
    # Only where there is something to do: with what it imports it takes megabytes of every process that waits.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    if found is not None and found not in known:
        raise StoreTooNew(
            f"the schema {SCHEMA} is of revision {found}, which this version does not know; it knows up to {scripts.get_current_head()}",
            remedy="Start the version of the workbench that has been here, or a later one.",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def read_revision(connection: sa.Connection) -> str | None:
    """The revision that the tables are of, as Alembic notes it; None when there are none."""
    table = f"{SCHEMA}.alembic_version"
    if connection.scalar(sa.select(sa.func.to_regclass(table))) is None:
        return None
    found: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {table}"))
    return found
