"""PostgreSQL: rows by binary COPY, in one transaction with dead letters and offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.loading import DEAD_LETTERS, JSON, ORIGIN, Load, Target
from workbench.sections import WarehouseSettings
from workbench.warehouse.copy import LOCK_SECONDS, all_the_time, copy_rows, open_bulk, reported_bulk
from workbench.warehouse.dialects.base import MINE, BaseWarehouse, coordinates_query, last_coordinates
from workbench.warehouse.dialects.evolution import find_changes, fitted, inexact, inexact_query
from workbench.warehouse.engine import make_engine, reported
from workbench.warehouse.filtered import TABLE as FILTERED_TABLE
from workbench.warehouse.filtered import ensure_filtered, pack, read_filtered
from workbench.warehouse.ledger import advance
from workbench.warehouse.merge import delete_statement, merge_statement
from workbench.warehouse.refused import find_refused, unbounded
from workbench.warehouse.schema import quoted, split_name, sql_type

COLUMNS = """\
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
"""
ARROW_TYPES = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "double precision": pa.float64(),
    "text": pa.string(),
    "json": JSON,
}
STAGE, DELETED = "workbench_stage", "workbench_deleted"


class _OutOfDateColumns(Exception):
    """The load has columns that the table lacks, or wider ones."""


class PostgresqlWarehouse(BaseWarehouse):
    """A flow's tables in PostgreSQL (`workbench.loading.Warehouse`).

    Two connections: SQLAlchemy's for all but the bulk path, ADBC's for the load, so that a claim
    need not wait for a commit.
    """

    def __init__(self, settings: WarehouseSettings, target: Target) -> None:
        super().__init__(settings, target)
        self._bulk: Any = None
        self._changes: list[str] = []  # of columns, by the last load

    def _make_engine(self) -> sa.Engine:
        return make_engine(self._settings, lock_seconds=LOCK_SECONDS)

    def _reported(self) -> AbstractContextManager[None]:
        return reported(self._settings)

    def _close(self) -> None:
        bulk, self._bulk = self._bulk, None
        if bulk is not None:
            bulk.close()

    def _make_others(self, connection: sa.Connection) -> None:
        ensure_filtered(connection)

    def _lock_claims(self, connection: sa.Connection) -> None:
        # Two who claim a new partition at once do so one after the other.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": self._target.table})

    def coordinates(self, *, dead: bool) -> Iterator[pa.RecordBatch]:
        """Where every row, or every dead letter, comes from; see `workbench.loading.Warehouse`."""
        query, parameters = coordinates_query(self._target, dead=dead)
        with reported_bulk(self._settings), closing(open_bulk(self._settings)) as bulk, bulk.cursor() as cursor:
            cursor.execute(query, parameters)
            for batch in cursor.fetch_record_batch():
                yield batch.rename_columns([field.name for field in ORIGIN])

    def filtered(self) -> Iterator[pa.RecordBatch]:
        """Where every record comes from that steps left out; see `workbench.loading.Warehouse`."""
        with self.transaction() as connection:
            yield from read_filtered(connection, self._target)

    def commit(self, load: Load) -> None:
        """Write all of *load* in one transaction; see `workbench.loading.Warehouse`."""

        def write(cursor: Any, *, evolve: bool) -> None:
            def ask(statement: str, parameters: tuple[str, str]) -> list[tuple[Any, ...]]:
                cursor.execute(statement, parameters)
                return cursor.fetchall()  # type: ignore[no-any-return]

            if not advance(self._target, load.spans, ask):
                self._write(cursor, load, evolve=evolve)

        with self._refusals(lambda: load):
            self._transact(write)

    def replay(self, after: tuple[int, int], limit: int, load: Callable[[pa.Table], Load]) -> tuple[int, int] | None:
        """Take dead letters and write what is made of them; see `workbench.loading.Warehouse`."""
        letters = quoted(*split_name(self._target.dead_letters))
        names = ", ".join(DEAD_LETTERS.names)
        # Locked rows are another replay's.
        taken = (
            f"DELETE FROM {letters} WHERE ctid IN (SELECT ctid FROM {letters} WHERE {MINE} AND "
            f"(record_partition, record_offset) > ({int(after[0])}, {int(after[1])}) "
            f"ORDER BY record_partition, record_offset LIMIT {int(limit)} FOR UPDATE SKIP LOCKED) RETURNING {names}"
        )
        made: list[Load] = []
        last: list[tuple[int, int]] = []

        def write(cursor: Any, *, evolve: bool) -> None:
            cursor.execute(taken, (self._target.table, self._target.topic))
            found = cursor.fetch_arrow_table()
            if found.num_rows:
                made[:] = [load(found)]
                last[:] = [last_coordinates(found)]
                self._write(cursor, made[0], evolve=evolve)

        with self._refusals(lambda: made[0] if made else None):
            self._transact(write)
        return last[0] if last else None

    def _find_refused(self, load: Load) -> tuple[Mapping[int, str], Mapping[int, str]]:
        with self._reported(), self.engine.connect() as connection:
            return find_refused(connection, self._target, load.rows, load.deleted, self._changes)

    def _transact(self, write: Callable[..., None]) -> None:
        try:
            self._attempt(write, evolve=False)
        except _OutOfDateColumns:
            self._attempt(write, evolve=True)

    def _attempt(self, write: Callable[..., None], *, evolve: bool) -> None:
        try:
            with reported_bulk(self._settings):
                if self._bulk is None:
                    self._bulk = open_bulk(self._settings)
                with self._bulk.cursor() as cursor:
                    write(cursor, evolve=evolve)
                self._bulk.commit()
        except BaseException:
            # Whatever it was, the transaction is over: the server rolls back when the connection goes.
            self._close()
            raise

    def _write(self, cursor: Any, load: Load, *, evolve: bool) -> None:
        target = quoted(*split_name(self._target.table))
        # Nobody changes the table between the look at its columns and the end of the transaction.
        cursor.execute(f"LOCK TABLE {target} IN {'ACCESS EXCLUSIVE' if evolve else 'ROW EXCLUSIVE'} MODE")
        columns = self._columns(cursor, target)
        changes = find_changes(load.rows.schema, columns)
        if changes and not self._target.evolves:
            names = ", ".join(change.name for change in changes)
            raise WarehouseError(
                f"{self._target.table} has lost columns, or has narrower ones, since the flow began: {names}",
                remedy="Restore them, or change the flow's columns, and begin again.",
            )
        if changes and not evolve:
            raise _OutOfDateColumns
        self._changes = [self._alter(cursor, target, change, columns) for change in changes]
        if changes:
            columns = self._columns(cursor, target)
        rows = fitted(load.rows, columns)
        if self._target.key:
            self._merge(cursor, target, rows, None if load.deleted is None else fitted(load.deleted, columns))
        else:
            copy_rows(cursor, *split_name(self._target.table), rows)
        copy_rows(cursor, *split_name(self._target.dead_letters), load.dead_letters)
        if load.filtered is not None:
            copy_rows(cursor, *split_name(FILTERED_TABLE), pack(self._target, load.filtered))

    def _columns(self, cursor: Any, target: str) -> dict[str, pa.DataType | None]:
        cursor.execute(COLUMNS, (target,))
        return {name: ARROW_TYPES.get(kind) for name, kind in cursor.fetchall()}

    def _alter(self, cursor: Any, target: str, column: pa.Field, columns: Mapping[str, pa.DataType | None]) -> str:
        """Add a column or widen it; rows that are there keep their values, or get null. Returns the statement."""
        name = quoted(column.name)
        kind = sa.types.to_instance(sql_type(column)).compile(self.engine.dialect)
        if column.name not in columns:
            change = f"ALTER TABLE {target} ADD COLUMN {name} {kind}"
            cursor.execute(change)
            return change
        change = f"ALTER TABLE {target} ALTER COLUMN {name} TYPE {kind}"
        with all_the_time(cursor):
            if columns[column.name] == pa.int64():
                cursor.execute(inexact_query(target, column.name))
                if cursor.fetchone()[0]:
                    raise inexact(self._target.table, column.name, kind)
            cursor.execute(change)
        return change

    def _merge(self, cursor: Any, target: str, rows: pa.Table, deleted: pa.Table | None) -> None:
        if deleted is not None and deleted.num_rows:
            # A text that is too long for the table names no row of it.
            keys = unbounded(deleted)
            cursor.execute(f"CREATE TEMP TABLE {DELETED} ON COMMIT DROP AS SELECT {keys} FROM {target} WITH NO DATA")
            copy_rows(cursor, "pg_temp", DELETED, deleted)
            cursor.execute(delete_statement(target, DELETED, deleted.column_names, self._target.key))
        if rows.num_rows:
            names = ", ".join(quoted(name) for name in rows.column_names)
            cursor.execute(f"CREATE TEMP TABLE {STAGE} ON COMMIT DROP AS SELECT {names} FROM {target} WITH NO DATA")
            copy_rows(cursor, "pg_temp", STAGE, rows)
            cursor.execute(merge_statement(target, STAGE, rows.column_names, self._target.key))
