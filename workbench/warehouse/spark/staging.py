"""Staging tables: what a task has written, which nobody reads until the job's one transaction takes it.

They are unlogged tables of the schema `workbench_staging`, one for each task that had rows. A task
that is run twice has two; the one whose message reaches the driver counts. The comment of a
table tells whose it is, so that the next job can remove what a dead one has left.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from workbench.errors import RowsRefused, WarehouseError
from workbench.living import birth_of, boot_id, lives
from workbench.sections import WarehouseSettings
from workbench.warehouse.copy import KEEPALIVES, open_bulk, reported_bulk
from workbench.warehouse.schema import literal, lock_ddl, quoted
from workbench.warehouse.spark.types import Field

SCHEMA = "workbench_staging"
OLD_SECONDS = 24 * 3600  # of a job on another machine, which cannot be asked whether it lives
LEFT_OVER = (
    "SELECT relname, obj_description(oid, 'pg_class') AS told, extract(epoch FROM now()) AS now FROM pg_class "
    "WHERE relnamespace = to_regnamespace(:schema) AND relkind = 'r' AND pg_get_userbyid(relowner) = current_user"
)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process of the driver, as the comment of a staging table names it."""

    machine: str  #: boot and process namespace
    pid: int
    started: str  #: of `workbench.living`

    def is_dead(self) -> bool | None:
        """Whether it is known to have ended; None on another machine."""
        if self.machine != _machine():
            return None
        return not lives(self.pid, str(self.started))


@dataclass(frozen=True, kw_only=True)
class Job:
    """One write of Spark. It travels to the tasks."""

    prefix: str  #: of the names of its staging tables
    owner: Owner
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Staged:
    """What one task has written."""

    table: str  #: name in `SCHEMA`; empty when there was no row
    rows: int


def make_owner() -> Owner:
    """The Java process above this one, which is the driver; without one, this process."""
    me = psutil.Process()
    above = next((each for each in me.parents() if "java" in each.name()), me)
    return Owner(machine=_machine(), pid=above.pid, started=birth_of(above.pid))


def batch_prefix() -> str:
    """The prefix of a batch job: no other has it."""
    return f"job_{uuid4().hex[:20]}_"


def stream_prefix(stream: str, table: str) -> str:
    """The prefix of a stream's staging tables: what another batch has left has it, too."""
    return f"stream_{hashlib.sha256(f'{stream} {table}'.encode()).hexdigest()[:20]}_"


def stage(settings: WarehouseSettings, job: Job, batches: Iterator[pa.RecordBatch]) -> Staged:
    """Copy the rows of one task into a staging table of its own, in one transaction.

    Raises:
        RowsRefused: when a value is none that PostgreSQL can hold.
        WarehouseError: when the warehouse refuses or does not answer.
    """
    filled = (batch for batch in batches if batch.num_rows)
    first = next(filled, None)
    if first is None:
        return Staged("", 0)
    table = f"{job.prefix}{uuid4().hex[:20]}"
    rows = _Rows(job.fields, first, filled)
    try:
        # By the name of the application, whoever ends the job finds the tasks that are still at it.
        limits = {**KEEPALIVES, "application_name": job.prefix}
        with reported_bulk(settings), closing(open_bulk(settings, limits=limits)) as bulk:
            with bulk.cursor() as cursor:
                cursor.execute(_create(table, job.fields))
                cursor.execute(f"COMMENT ON TABLE {quoted(SCHEMA, table)} IS '{_comment(job.owner)}'")
                cursor.adbc_ingest(table, rows.reader(), mode="append", db_schema_name=SCHEMA)
            bulk.commit()
    except WarehouseError:
        # The driver only says that its input failed; why, we know.
        if rows.failure is not None:
            raise rows.failure from None
        raise
    return Staged(table, rows.count)


def ensure_staging(connection: sa.Connection) -> None:
    """Make the schema when it is not there."""
    if sa.inspect(connection).has_schema(SCHEMA):
        return
    lock_ddl(connection)
    connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))


def remove_left_over(connection: sa.Connection) -> int:
    """Drop the staging tables of jobs whose driver has ended, and those that are a day old; returns how many."""
    left = [row.relname for row in connection.execute(sa.text(LEFT_OVER), {"schema": SCHEMA}) if _is_left_over(row)]
    drop(connection, left)
    return len(left)


def end_tasks(connection: sa.Connection, prefix: str) -> None:
    """End the connections of tasks that still write for a job that has ended: their tables would stay."""
    connection.execute(
        sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = :prefix AND usename = current_user AND pid <> pg_backend_pid()"
        ),
        {"prefix": prefix},
    )


def tables_of(connection: sa.Connection, prefix: str) -> list[str]:
    """The staging tables of a job, or of a stream."""
    found = connection.execute(sa.text(LEFT_OVER), {"schema": SCHEMA})
    return [row.relname for row in found if row.relname.startswith(prefix)]


def drop(connection: sa.Connection, tables: Sequence[str]) -> None:
    """Drop staging tables, as far as they are there."""
    for table in sorted(tables):
        connection.execute(literal(f"DROP TABLE IF EXISTS {quoted(SCHEMA, table)}"))


def _is_left_over(row: Any) -> bool:
    with suppress(ValueError, TypeError, KeyError):
        told = json.loads(row.told)
        dead = Owner(**told["owner"]).is_dead()
        return bool(float(row.now) - told["made"] > OLD_SECONDS if dead is None else dead)
    return False


def _machine() -> str:
    if boot := boot_id():
        with suppress(OSError):
            return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _comment(owner: Owner) -> str:
    return json.dumps({"owner": asdict(owner), "made": int(time.time())}).replace("'", "''")


def _create(table: str, fields: Sequence[Field]) -> str:
    columns = ", ".join(f"{quoted(field.name)} {field.sql}" for field in fields)
    return f"CREATE UNLOGGED TABLE {quoted(SCHEMA, table)} ({columns})"


class _Rows:
    """The batches of a task on their way into COPY: counted, checked, in the types of the staging table."""

    def __init__(self, fields: Sequence[Field], first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> None:
        self._fields, self._first, self._others = fields, first, others
        self._schema = pa.schema(
            [pa.field(field.name, _copied(found.type)) for field, found in zip(fields, first.schema, strict=True)]
        )
        self.count = 0
        self.failure: WarehouseError | None = None

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._schema, self._checked())

    def _checked(self) -> Iterator[pa.RecordBatch]:
        try:
            yield self._fitted(self._first)
            for batch in self._others:
                yield self._fitted(batch)
        except WarehouseError as error:
            self.failure = error
            raise

    def _fitted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for field, array in zip(self._fields, batch.columns, strict=True):
            if field.sql.startswith("text"):
                _refuse_nul(array.flatten() if pa.types.is_list(array.type) else array, field.name)
        self.count += batch.num_rows
        arrays = [array.cast(field.type) for array, field in zip(batch.columns, self._schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def _copied(kind: pa.DataType) -> pa.DataType:
    """The Arrow type from which COPY's binary format is made; the same values."""
    if pa.types.is_int8(kind):
        return pa.int16()
    if pa.types.is_list(kind):
        return pa.list_(_copied(kind.value_type))
    return pa.timestamp("us", tz="UTC") if pa.types.is_timestamp(kind) and kind.tz else kind


def _refuse_nul(array: pa.Array, column: str) -> None:
    # Looking for one byte in the buffer is quick; only a buffer that has one is looked at text by text.
    data = array.buffers()[-1]
    if data is None or data.to_pybytes().find(b"\0") < 0:
        return
    if pc.any(pc.match_substring(array, "\0")).as_py():
        raise RowsRefused(
            f"column {column} has a text with the character NUL, which PostgreSQL cannot hold",
            reasons={},
            remedy=f"Remove it: translate({column}, chr(0), ''), or write binary.",
        )
