"""Bookmarks of batch jobs, `workbench.bookmarks`: which partitions are there, written with their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from workbench.sections import WarehouseSettings
from workbench.warehouse.engine import transaction
from workbench.warehouse.schema import lock_ddl

DONE, FAILED = "done", "failed"
LONGEST_ERROR = 2000
BOOKMARKS = sa.Table(
    "bookmarks",
    sa.MetaData(),
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("partition", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False, comment="done or failed"),
    sa.Column("rows", sa.BigInteger, comment="of the partition; as of its last success"),
    sa.Column("code", sa.Text, nullable=False, comment="hash of the function that made the rows"),
    sa.Column("application", sa.Text, nullable=False, comment="id of Spark's application"),
    sa.Column("error", sa.Text, comment="why it failed"),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    schema="workbench",
)


@dataclass(frozen=True, kw_only=True)
class Bookmark:
    """What is known of one partition of a job."""

    job: str
    partition: str
    state: str  #: `done` or `failed`
    rows: int | None  #: of the last success; None when there was none
    code: str  #: hash of the function
    application: str
    error: str
    updated_at: datetime


def write_bookmark(connection: sa.Connection, bookmark: Mapping[str, str], *, rows: int) -> None:
    """Say that a partition is done, in the transaction that writes its rows.

    Args:
        connection: in that transaction.
        bookmark: job, partition, code and application.
        rows: of the partition.
    """
    make_bookmarks(connection)
    _upsert(connection, {**bookmark, "state": DONE, "rows": rows, "error": None})


def write_failure(settings: WarehouseSettings, bookmark: Mapping[str, str], error: str) -> None:
    """Say that a partition failed; the rows that an earlier run wrote are still there, and so is their number.

    Raises:
        WarehouseError: when the warehouse refuses or does not answer.
    """
    with transaction(settings) as connection:
        make_bookmarks(connection)
        _upsert(connection, {**bookmark, "state": FAILED, "error": error[:LONGEST_ERROR].replace("\0", "")})


def read_bookmarks(settings: WarehouseSettings, job: str = "") -> tuple[Bookmark, ...]:
    """The bookmarks of a job, or of all jobs, by job and partition.

    Raises:
        WarehouseError: when the warehouse refuses or does not answer.
    """
    with transaction(settings) as connection:
        if not sa.inspect(connection).has_table("bookmarks", "workbench"):
            return ()
        query = sa.select(BOOKMARKS).order_by(BOOKMARKS.c.job, BOOKMARKS.c.partition)
        found = connection.execute(query.where(BOOKMARKS.c.job == job) if job else query)
        return tuple(Bookmark(**{**row._asdict(), "error": row.error or ""}) for row in found)


def make_bookmarks(connection: sa.Connection) -> None:
    """Make the table when it is not there."""
    if sa.inspect(connection).has_table("bookmarks", "workbench"):
        return
    lock_ddl(connection)
    connection.execute(sa.schema.CreateSchema("workbench", if_not_exists=True))
    BOOKMARKS.create(connection, checkfirst=True)


def _upsert(connection: sa.Connection, values: Mapping[str, object]) -> None:
    from sqlalchemy.dialects.postgresql import insert

    others = {name: value for name, value in values.items() if name not in {"job", "partition"}}
    statement = insert(BOOKMARKS).values(**values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["job", "partition"], set_={**others, "updated_at": sa.func.now()}
        )
    )
