"""A job's staging tables into its table: all in one transaction, with the ledger of what is written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from workbench.errors import WarehouseError, WarehouseUnavailable
from workbench.sections import WarehouseSettings
from workbench.warehouse.bookmarks import write_bookmark
from workbench.warehouse.engine import make_engine, reported
from workbench.warehouse.merge import upsert_statement
from workbench.warehouse.schema import literal, lock_ddl, quoted, split_name
from workbench.warehouse.spark import staging
from workbench.warehouse.spark.fitting import check_fit
from workbench.warehouse.spark.options import WriteOptions, write_options
from workbench.warehouse.spark.reading import require_postgresql
from workbench.warehouse.spark.staging import SCHEMA, Job, Staged
from workbench.warehouse.spark.types import Field, cast_of, write_fields

OUTAGE_SECONDS = 60.0
RETRY_SECONDS = 0.5
DISCARD_LOCK_SECONDS = 5  # for a staging table that somebody still has open


@dataclass(frozen=True, kw_only=True)
class Write:
    """What one job writes, and how. It travels to the tasks and back."""

    job: Job
    options: WriteOptions
    overwrite: bool

    @property
    def target(self) -> str:
        """The quoted name of the table."""
        return quoted(*split_name(self.options.table))


Also = Callable[[sa.Connection, int], bool]  #: given the rows; False writes nothing, because they are there


def make_write(
    settings: WarehouseSettings,
    columns: Iterable[tuple[str, str]],
    options: Mapping[str, str],
    *,
    overwrite: bool,
    is_stream: bool = False,
) -> Write:
    """A write that is in order, before its first task.

    Args:
        settings: the warehouse.
        columns: of the frame, by name and Spark's simple type.
        options: as `df.write.option(…)` takes them.
        overwrite: whether rows are replaced.
        is_stream: whether there will be batch after batch.

    Raises:
        WarehouseError: with every option that is wrong, or naming every column that does not fit.
    """
    require_postgresql(settings)
    chosen = write_options(options, overwrite=overwrite, is_stream=is_stream)
    prefix = staging.stream_prefix(chosen.stream, chosen.table) if is_stream else staging.batch_prefix()
    job = Job(prefix=prefix, owner=staging.make_owner(), fields=write_fields(columns))
    write = Write(job=job, options=chosen, overwrite=overwrite)
    prepare(settings, write)
    return write


def prepare(settings: WarehouseSettings, write: Write) -> None:
    """Make sure that the frame fits the table, and remove what dead jobs have left.

    Raises:
        WarehouseError: naming every column that does not fit.
    """
    engine = make_engine(settings)
    try:
        with reported(settings), engine.begin() as connection:
            staging.ensure_staging(connection)
            check_fit(connection, write.options, write.job.fields)
        # A table that is just being removed by somebody else is left to them.
        with suppress(sa.exc.DBAPIError), engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
            staging.remove_left_over(connection)
    finally:
        engine.dispose()


def publish(settings: WarehouseSettings, write: Write, staged: Sequence[Staged], also: Also = lambda *_: True) -> int:
    """Make what the tasks have staged the rows of the table, in one transaction; returns how many there are.

    An outage of a minute is waited for. The staging tables go in the same transaction: when the
    answer to a commit was lost, they tell whether it was written.

    Args:
        settings: the warehouse.
        write: what is written.
        staged: what the tasks have told, of one attempt each.
        also: done in the same transaction, before the rows.

    Raises:
        WarehouseError: when the warehouse refuses; the table is as it was.
    """
    deadline = time.monotonic() + OUTAGE_SECONDS
    maybe_written = False
    while True:
        engine = make_engine(settings)
        try:
            with reported(settings), engine.begin() as connection:
                rows = _publish(connection, write, [each for each in staged if each.rows], also, maybe_written)
            with suppress(sa.exc.SQLAlchemyError), engine.begin() as connection:
                staging.end_tasks(connection, write.job.prefix)
        except WarehouseUnavailable:
            maybe_written = True
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return rows
        finally:
            engine.dispose()


def discard(settings: WarehouseSettings, write: Write) -> None:
    """Drop all staging tables of a job that failed, as far as the warehouse answers."""
    engine = make_engine(settings, lock_seconds=DISCARD_LOCK_SECONDS)
    try:
        with suppress(sa.exc.SQLAlchemyError), engine.begin() as connection:
            staging.end_tasks(connection, write.job.prefix)
        with suppress(sa.exc.SQLAlchemyError), engine.begin() as connection:
            staging.drop(connection, staging.tables_of(connection, write.job.prefix))
    finally:
        engine.dispose()


def _publish(connection: sa.Connection, write: Write, staged: Sequence[Staged], also: Also, maybe_written: bool) -> int:
    # So that `discard` ends it too, when the process that waits for it was killed.
    connection.execute(sa.text("SELECT set_config('application_name', :name, true)"), {"name": write.job.prefix})
    rows = sum(each.rows for each in staged)
    present = set(staging.tables_of(connection, write.job.prefix))
    missing = [each.table for each in staged if each.table not in present]
    if maybe_written and staged and len(missing) == len(staged):
        return rows
    if not also(connection, rows):
        staging.drop(connection, sorted(present))
        return 0
    if missing:
        raise WarehouseError(
            f"{len(missing)} staging tables of the write of {write.options.table} are gone; nothing was written",
            remedy="Run the job again. Nobody but jobs should drop tables of workbench_staging.",
        )
    for each in staged:
        _refuse_lost_rows(connection, write, each)
    columns = check_fit(connection, write.options, write.job.fields) or _create(connection, write)
    # Two jobs on one table publish one after the other; otherwise the rows of both would stay.
    mode = "SHARE ROW EXCLUSIVE" if write.overwrite else "ROW EXCLUSIVE"
    connection.execute(literal(f"LOCK TABLE {write.target} IN {mode} MODE"))
    if write.overwrite:
        _remove_old(connection, write, staged)
    if staged:
        _insert(connection, write, staged, columns)
    if write.options.bookmark:
        write_bookmark(connection, write.options.bookmark, rows=rows)
    # Of this stream or job, the tables of tasks that were run twice and did not count are among them.
    staging.drop(connection, sorted(present))
    return rows


def _refuse_lost_rows(connection: sa.Connection, write: Write, staged: Staged) -> None:
    """An unlogged table is empty after a crash of PostgreSQL: that must not pass for a table without rows."""
    found = connection.execute(literal(f"SELECT count(*) FROM {quoted(SCHEMA, staged.table)}")).scalar_one()
    if found != staged.rows:
        raise WarehouseError(
            f"the warehouse has lost staged rows of {write.options.table}: {found} of {staged.rows} are there; nothing was written",
            remedy="It was started anew in the midst of the job. Run the job again.",
        )


def _create(connection: sa.Connection, write: Write) -> Mapping[str, Any]:
    schema, _ = split_name(write.options.table)
    lock_ddl(connection)
    if found := check_fit(connection, write.options, write.job.fields):  # somebody else was quicker
        return found
    connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    key = write.options.key
    columns = [f"{quoted(field.name)} {field.sql}" for field in write.job.fields]
    if key:
        columns.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
    connection.execute(literal(f"CREATE TABLE {write.target} ({', '.join(columns)})"))
    return check_fit(connection, write.options, write.job.fields)


def _remove_old(connection: sa.Connection, write: Write, staged: Sequence[Staged]) -> None:
    where, values = replaced_condition(write.options.replace)
    for each in staged if write.options.replace else ():
        source = _escaped(quoted(SCHEMA, each.table))
        outside = connection.execute(
            sa.text(f"SELECT count(*) FROM {source} WHERE ({where}) IS NOT TRUE"), values
        ).scalar_one()
        if outside:
            raise WarehouseError(
                f"{outside} rows of the frame are not among those that {json.dumps(dict(write.options.replace))} replaces",
                remedy="Filter the frame, or change `replace`: a second run would write these rows twice.",
            )
    connection.execute(sa.text(f"DELETE FROM {_escaped(write.target)} WHERE {where}"), values)


def replaced_condition(replace: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """A condition with its values: columns equal to a value (null included), or from … to before …."""
    parts: list[str] = []
    values: dict[str, object] = {}
    for number, (column, value) in enumerate(replace.items()):
        name = _escaped(quoted(column))
        if isinstance(value, Mapping):
            parts.append(f"{name} >= :v{number}a AND {name} < :v{number}b")
            values |= {f"v{number}a": value["from"], f"v{number}b": value["to"]}
        else:
            parts.append(f"{name} IS NOT DISTINCT FROM :v{number}")
            values[f"v{number}"] = value
    return " AND ".join(parts) or "TRUE", values


def _insert(connection: sa.Connection, write: Write, staged: Sequence[Staged], columns: Mapping[str, Any]) -> None:
    names = [field.name for field in write.job.fields]
    values = ", ".join(_value(field, columns[field.name]) for field in write.job.fields)
    # One statement: two rows of one key, of two tasks even, are an error and not a matter of chance.
    source = " UNION ALL ".join(f"SELECT {values} FROM {quoted(SCHEMA, each.table)}" for each in staged)
    listed = ", ".join(map(quoted, names))
    if write.options.key:
        statement = upsert_statement(write.target, source, names, write.options.key)
    else:
        statement = f"INSERT INTO {write.target} ({listed}) {source}"
    connection.execute(literal(statement))


def _value(field: Field, column: Any) -> str:
    cast = cast_of(field, column.kind, is_enum=column.is_enum)
    return f"{quoted(field.name)}::{cast}" if cast else quoted(field.name)


def _escaped(name: str) -> str:
    return name.replace(":", "\\:")
