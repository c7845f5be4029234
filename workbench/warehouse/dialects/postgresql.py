"""PostgreSQL: rows by binary COPY, in one transaction with dead letters and offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import sqlalchemy as sa

from workbench.errors import RowsRefused, WarehouseError
from workbench.loading import DEAD_LETTERS, JSON, ORIGIN, Claim, Load, Progress, Target
from workbench.sections import WarehouseSettings
from workbench.warehouse.copy import LOCK_SECONDS, copy_rows, open_bulk, reported_bulk
from workbench.warehouse.dialects.evolution import find_changes, inexact, inexact_query
from workbench.warehouse.engine import make_engine, reported
from workbench.warehouse.filtered import TABLE as FILTERED_TABLE
from workbench.warehouse.filtered import ensure_filtered, pack, read_filtered
from workbench.warehouse.ledger import (
    advance,
    claim_partitions,
    is_written,
    make_ledger,
    read_progress,
    refuse_if_gone,
    taken_over,
)
from workbench.warehouse.merge import delete_statement, merge_statement
from workbench.warehouse.refused import find_refused, rows_refused, unbounded
from workbench.warehouse.schema import (
    add_missing,
    ensure_table,
    is_wider,
    quoted,
    split_name,
    sql_type,
    table_columns,
)

COLUMNS = """\
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
"""
MINE = "(target = $1 OR target IS NULL) AND topic = $2"  # letters of older versions have no target
STORED = "SELECT partition, epoch, next_offset FROM workbench.offsets WHERE target = $1 AND topic = $2"
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


class PostgresqlWarehouse:
    """A flow's tables in PostgreSQL (`workbench.loading.Warehouse`).

    Two connections: SQLAlchemy's for all but the bulk path, ADBC's for the load, so that a claim
    need not wait for a commit.
    """

    def __init__(self, settings: WarehouseSettings, target: Target) -> None:
        self._settings = settings
        self._target = target
        self._engine: sa.Engine | None = None
        self._bulk: Any = None
        self._changes: list[str] = []  # of columns, by the last load

    def __enter__(self) -> Self:
        self._engine = make_engine(self._settings, lock_seconds=LOCK_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bulk()
        if self._engine is not None:
            self._engine.dispose()

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine, while the warehouse is entered."""
        assert self._engine is not None, "use the warehouse as a context manager"
        return self._engine

    def prepare(self, rows: pa.Schema) -> pa.Schema:
        """Make target, dead letters and ledger when they are not there; see `workbench.loading.Warehouse`."""
        target = self._target
        with self.transaction() as connection:
            make_ledger(connection)
            is_new = ensure_table(connection, target.table, rows, key=target.key, evolves=target.evolves)
            if not ensure_table(connection, target.dead_letters, DEAD_LETTERS, evolves=True):
                add_missing(connection, target.dead_letters, DEAD_LETTERS)
            ensure_filtered(connection)
            if is_new:
                refuse_if_gone(connection, target)
            return pa.schema(list(table_columns(connection, target.table).values()))

    def claim(self, cluster_id: str, topic_id: str, first_offsets: Mapping[int, int]) -> tuple[Claim, ...]:
        """Become the owner of partitions; see `workbench.loading.Warehouse`."""
        with self.transaction() as connection:
            # Two who claim a new partition at once do so one after the other.
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": self._target.table})
            return claim_partitions(connection, self._target, (cluster_id, topic_id), first_offsets)

    def progress(self) -> Sequence[Progress]:
        """How far the flow has come; see `workbench.loading.Warehouse`."""
        with self.transaction() as connection:
            return read_progress(connection, self._target)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction of SQLAlchemy; see `workbench.loading.Warehouse`."""
        with reported(self._settings), self.engine.begin() as connection:
            yield connection

    def coordinates(self, *, dead: bool) -> Iterator[pa.RecordBatch]:
        """Where every row, or every dead letter, comes from; see `workbench.loading.Warehouse`."""
        table = quoted(*split_name(self._target.dead_letters if dead else self._target.table))
        query = (
            f"SELECT record_partition, record_offset FROM {table} WHERE {MINE}"
            if dead
            else (f"SELECT _partition, _offset FROM {table}")
        )
        with reported_bulk(self._settings), closing(open_bulk(self._settings)) as bulk, bulk.cursor() as cursor:
            cursor.execute(query, (self._target.table, self._target.topic) if dead else None)
            for batch in cursor.fetch_record_batch():
                yield batch.rename_columns([field.name for field in ORIGIN])

    def filtered(self) -> Iterator[pa.RecordBatch]:
        """Where every record comes from that steps left out; see `workbench.loading.Warehouse`."""
        with self.transaction() as connection:
            yield from read_filtered(connection, self._target)

    def commit(self, load: Load) -> None:
        """Write all of *load* in one transaction; see `workbench.loading.Warehouse`."""

        def write(cursor: Any, *, evolve: bool) -> None:
            if not self._advance(cursor, load):
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
                last[:] = [
                    max(zip(*(found[f"record_{each}"].to_pylist() for each in ("partition", "offset")), strict=True))
                ]
                self._write(cursor, made[0], evolve=evolve)

        with self._refusals(lambda: made[0] if made else None):
            self._transact(write)
        return last[0] if last else None

    @contextmanager
    def _refusals(self, made: Callable[[], Load | None]) -> Iterator[None]:
        """Find out which rows were refused."""
        try:
            yield
        except RowsRefused:
            load = made()
            if load is None:
                raise
            with reported(self._settings), self.engine.connect() as connection:
                rows, deletions = find_refused(connection, self._target, load.rows, load.deleted, self._changes)
            if not rows and not deletions:
                raise
            raise rows_refused(self._target, rows, deletions, remedy="See the dead letters.") from None

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
            self._close_bulk()
            raise

    def _advance(self, cursor: Any, load: Load) -> bool:
        """Move the offsets; whether the load had been written before.

        Raises:
            TakenOver: when a span is no longer ours, or begins elsewhere than the ledger says.
        """
        spans = [span for span in load.spans if span.end > span.start]
        if not spans:
            return False
        name = (self._target.table, self._target.topic)
        cursor.execute(advance(self._target, spans), name)
        moved = {row[0] for row in cursor.fetchall()}
        if len(moved) == len(spans):
            return False
        if not moved:
            cursor.execute(STORED, name)
            if is_written(spans, cursor.fetchall()):
                return True
        raise taken_over(self._target, {span.partition for span in spans} - moved)

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
        rows = _fitted(load.rows, columns)
        if self._target.key:
            self._merge(cursor, target, rows, None if load.deleted is None else _fitted(load.deleted, columns))
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
        else:
            change = f"ALTER TABLE {target} ALTER COLUMN {name} TYPE {kind}"
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

    def _close_bulk(self) -> None:
        bulk, self._bulk = self._bulk, None
        if bulk is not None:
            bulk.close()


def _fitted(rows: pa.Table, columns: Mapping[str, pa.DataType | None]) -> pa.Table:
    """The rows with the types of the table, where those are wider."""
    for index, field in enumerate(rows.schema):
        found = columns[field.name]
        if found is not None and is_wider(found, field.type):
            rows = rows.set_column(index, field.with_type(found), rows.column(index).cast(found))
    return rows
