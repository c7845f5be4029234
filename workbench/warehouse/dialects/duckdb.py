"""DuckDB: one encrypted file of one process; rows go in as Arrow, in one transaction with dead letters and offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import duckdb
import pyarrow as pa
import sqlalchemy as sa

from workbench.errors import RowsRefused
from workbench.loading import DEAD_LETTERS, ORIGIN, Claim, Load, Progress, Target
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects.duckdb_file import make_file_engine, open_file, reported_file
from workbench.warehouse.dialects.duckdb_refused import find_refused
from workbench.warehouse.dialects.duckdb_sql import (
    COLUMNS,
    FIRST_TURN,
    MINE,
    STORED,
    TAKE_TURN,
    TURNS,
    UNIQUE,
    merge_statements,
)
from workbench.warehouse.dialects.evolution import find_changes, inexact, inexact_query
from workbench.warehouse.dialects.patience import patiently
from workbench.warehouse.dialects.reflection import type_named
from workbench.warehouse.ledger import (
    advance,
    claim_partitions,
    is_written,
    make_ledger,
    read_progress,
    refuse_if_gone,
    taken_over,
)
from workbench.warehouse.merge import delete_statement
from workbench.warehouse.refused import rows_refused
from workbench.warehouse.schema import (
    add_missing,
    arrow_type,
    ensure_table,
    quoted,
    split_name,
    sql_type,
    table_columns,
)

T = TypeVar("T")
ROWS, DELETED = "workbench_rows", "workbench_deleted"


class DuckdbWarehouse:
    """A flow's tables in a DuckDB file (`workbench.loading.Warehouse`).

    Merge needs no index: two merges into one table take turns, so that a key is not inserted
    twice. An index would have to fit into memory and slows loads (duckdb.org, "Indexes").
    """

    def __init__(self, settings: WarehouseSettings, target: Target) -> None:
        self._settings = settings
        self._target = target
        self._engine: sa.Engine | None = None
        self._bulk: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> Self:
        self._engine = make_file_engine(self._settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        bulk, self._bulk = self._bulk, None
        if bulk is not None:
            bulk.close()
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

        def make() -> pa.Schema:
            with self.transaction() as connection:
                make_ledger(connection)
                is_new = ensure_table(
                    connection, target.table, rows, key=target.key, evolves=target.evolves, unique=False
                )
                if not ensure_table(connection, target.dead_letters, DEAD_LETTERS, evolves=True):
                    add_missing(connection, target.dead_letters, DEAD_LETTERS)
                if target.key:
                    connection.execute(sa.text(TURNS))
                    connection.execute(sa.text(FIRST_TURN), {"target": target.table})
                if is_new:
                    refuse_if_gone(connection, target)
                return pa.schema(list(table_columns(connection, target.table).values()))

        return patiently(make, duplicates=True)

    def claim(self, cluster_id: str, topic_id: str, first_offsets: Mapping[int, int]) -> tuple[Claim, ...]:
        """Become the owner of partitions; see `workbench.loading.Warehouse`."""

        def claim() -> tuple[Claim, ...]:
            with self.transaction() as connection:
                return claim_partitions(connection, self._target, (cluster_id, topic_id), first_offsets)

        return patiently(claim, duplicates=True)

    def progress(self) -> Sequence[Progress]:
        """How far the flow has come; see `workbench.loading.Warehouse`."""
        with self.transaction() as connection:
            return read_progress(connection, self._target)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction of SQLAlchemy; see `workbench.loading.Warehouse`."""
        with reported_file(self._settings), self.engine.begin() as connection:
            yield connection

    def coordinates(self, *, dead: bool) -> Iterator[pa.RecordBatch]:
        """Where every row, or every dead letter, comes from; see `workbench.loading.Warehouse`."""
        table = quoted(*split_name(self._target.dead_letters if dead else self._target.table))
        names = ("record_partition", "record_offset") if dead else ("_partition", "_offset")
        query = f"SELECT {', '.join(names)} FROM {table}" + (f" WHERE {MINE}" if dead else "")
        with reported_file(self._settings), closing(open_file(self._settings)) as connection:
            parameters = [self._target.table, self._target.topic] if dead else None
            for batch in connection.execute(query, parameters).to_arrow_reader():
                yield batch.rename_columns([field.name for field in ORIGIN])

    def filtered(self) -> Iterator[pa.RecordBatch]:
        """Nothing: flows with steps write to PostgreSQL only; see `workbench.loading.Warehouse`."""
        return iter(())

    def commit(self, load: Load) -> None:
        """Write all of *load* in one transaction; see `workbench.loading.Warehouse`."""

        def write(connection: duckdb.DuckDBPyConnection) -> None:
            if not self._advance(connection, load):
                self._write(connection, load)

        with self._refusals(lambda: load):
            self._transact(write)

    def replay(self, after: tuple[int, int], limit: int, load: Callable[[pa.Table], Load]) -> tuple[int, int] | None:
        """Take dead letters and write what is made of them; see `workbench.loading.Warehouse`."""
        letters = quoted(*split_name(self._target.dead_letters))
        taken = (
            f"DELETE FROM {letters} WHERE rowid IN (SELECT rowid FROM {letters} WHERE {MINE} AND "
            f"(record_partition > {int(after[0])} OR record_partition = {int(after[0])} AND record_offset > {int(after[1])}) "
            f"ORDER BY record_partition, record_offset LIMIT {int(limit)}) RETURNING {', '.join(DEAD_LETTERS.names)}"
        )
        made: list[Load] = []

        def write(connection: duckdb.DuckDBPyConnection) -> tuple[int, int] | None:
            found = connection.execute(taken, [self._target.table, self._target.topic]).to_arrow_table()
            if not found.num_rows:
                return None
            made[:] = [load(found)]
            self._write(connection, made[0])
            return max(zip(*(found[f"record_{each}"].to_pylist() for each in ("partition", "offset")), strict=True))

        with self._refusals(lambda: made[0]):
            return patiently(lambda: self._transact(write))

    @contextmanager
    def _refusals(self, load: Callable[[], Load]) -> Iterator[None]:
        """Find out which rows were refused."""
        try:
            yield
        except RowsRefused as error:
            bulk, made = self._bulk, load()
            assert bulk is not None
            deleted = made.rows.slice(0, 0) if made.deleted is None else made.deleted

            def delete(part: pa.Table) -> None:
                self._evolve(bulk, made.rows.schema)
                self._remove(bulk, part)

            with reported_file(self._settings):
                rows, deletions = find_refused(bulk, made.rows, lambda part: self._put(bulk, part), deleted, delete)
            if not rows and not deletions:
                raise
            raise rows_refused(self._target, rows, deletions, remedy=error.remedy) from None

    def _transact(self, write: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        with reported_file(self._settings):
            if self._bulk is None:
                self._bulk = open_file(self._settings)
            self._bulk.begin()
            try:
                done = write(self._bulk)
                self._bulk.commit()
            except BaseException:
                # A conflict has ended the transaction already.
                with suppress(duckdb.TransactionException):
                    self._bulk.rollback()
                raise
            return done

    def _advance(self, connection: duckdb.DuckDBPyConnection, load: Load) -> bool:
        """Move the offsets; whether the load had been written before.

        Raises:
            TakenOver: when a span is no longer ours, or begins elsewhere than the ledger says.
        """
        spans = [span for span in load.spans if span.end > span.start]
        if not spans:
            return False
        name = [self._target.table, self._target.topic]
        moved = {row[0] for row in connection.execute(advance(self._target, spans), name).fetchall()}
        if len(moved) == len(spans):
            return False
        if not moved and is_written(spans, connection.execute(STORED, name).fetchall()):
            return True
        raise taken_over(self._target, {span.partition for span in spans} - moved)

    def _write(self, connection: duckdb.DuckDBPyConnection, load: Load) -> None:
        self._evolve(connection, load.rows.schema)
        if self._target.key and (load.rows.num_rows or (load.deleted is not None and load.deleted.num_rows)):
            connection.execute(TAKE_TURN, [self._target.table])
        if load.deleted is not None:
            self._remove(connection, load.deleted)
        self._put(connection, load.rows)
        if load.dead_letters.num_rows:
            with _registered(connection, ROWS, load.dead_letters) as letters:
                names = ", ".join(load.dead_letters.column_names)
                into = quoted(*split_name(self._target.dead_letters))
                connection.execute(f"INSERT INTO {into} ({names}) SELECT {names} FROM {letters}")

    def _remove(self, connection: duckdb.DuckDBPyConnection, deleted: pa.Table) -> None:
        """Delete the rows of tombstones."""
        if deleted.num_rows:
            with _registered(connection, DELETED, deleted) as keys:
                target = quoted(*split_name(self._target.table))
                connection.execute(delete_statement(target, keys, deleted.column_names, self._target.key))

    def _put(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
        """Append or merge rows."""
        if not rows.num_rows:
            return
        target = quoted(*split_name(self._target.table))
        names = ", ".join(quoted(name) for name in rows.column_names)
        with _registered(connection, ROWS, rows) as stage:
            if self._target.key:
                replaces = self._has_only(connection, rows.column_names)
                for statement in merge_statements(
                    target, stage, rows.column_names, self._target.key, replaces=replaces
                ):
                    connection.execute(statement)
            else:
                connection.execute(f"INSERT INTO {target} ({names}) SELECT {names} FROM {stage}")

    def _has_only(self, connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> bool:
        """Whether the table has these columns, no others, and no unique index."""
        unique: Any = connection.execute(UNIQUE, list(split_name(self._target.table))).fetchone()
        return not unique[0] and {*self._columns(connection)} == {*names}

    def _columns(self, connection: duckdb.DuckDBPyConnection) -> dict[str, pa.DataType | None]:
        found = connection.execute(COLUMNS, list(split_name(self._target.table))).fetchall()
        return {name: arrow_type(type_named(kind, precision, scale)) for name, kind, precision, scale in found}

    def _evolve(self, connection: duckdb.DuckDBPyConnection, rows: pa.Schema) -> None:
        columns = self._columns(connection)
        for change in find_changes(rows, columns):
            self._alter(connection, change, columns)

    def _alter(
        self, connection: duckdb.DuckDBPyConnection, column: pa.Field, columns: Mapping[str, pa.DataType | None]
    ) -> None:
        """Add a column or widen it; rows that are there keep their values, or get null."""
        target, name = quoted(*split_name(self._target.table)), quoted(column.name)
        kind = sa.types.to_instance(sql_type(column)).compile(self.engine.dialect)
        if column.name not in columns:
            connection.execute(f"ALTER TABLE {target} ADD COLUMN {name} {kind}")
            return
        if columns[column.name] == pa.int64():
            found: Any = connection.execute(inexact_query(target, column.name)).fetchone()
            if found[0]:
                raise inexact(self._target.table, column.name, kind)
        connection.execute(f"ALTER TABLE {target} ALTER COLUMN {name} TYPE {kind}")


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> Iterator[str]:
    """Let SQL read *rows* under the name that this gives."""
    connection.register(name, rows)
    try:
        yield f"temp.{name}"
    finally:
        # When a statement has failed, the view is gone with the transaction.
        with suppress(duckdb.Error):
            connection.unregister(name)
