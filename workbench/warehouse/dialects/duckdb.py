"""DuckDB: one encrypted file of one process; rows go in as Arrow, in one transaction with dead letters and offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import sqlalchemy as sa

from workbench.loading import DEAD_LETTERS, ORIGIN, Load, Target
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects.base import MINE, BaseWarehouse, coordinates_query, last_coordinates
from workbench.warehouse.dialects.duckdb_file import make_file_engine, open_file, reported_file
from workbench.warehouse.dialects.duckdb_refused import find_refused
from workbench.warehouse.dialects.duckdb_sql import COLUMNS, FIRST_TURN, TAKE_TURN, TURNS, UNIQUE, merge_statements
from workbench.warehouse.dialects.evolution import find_changes, inexact, inexact_query
from workbench.warehouse.dialects.patience import patiently
from workbench.warehouse.dialects.reflection import type_named
from workbench.warehouse.ledger import advance
from workbench.warehouse.merge import delete_statement
from workbench.warehouse.schema import arrow_type, quoted, split_name, sql_type

T = TypeVar("T")
ROWS, DELETED = "workbench_rows", "workbench_deleted"


class DuckdbWarehouse(BaseWarehouse):
    """A flow's tables in a DuckDB file (`workbench.loading.Warehouse`).

    Merge needs no index: two merges into one table take turns, so that a key is not inserted
    twice. An index would have to fit into memory and slows loads (duckdb.org, "Indexes").
    """

    has_unique_keys = False

    def __init__(self, settings: WarehouseSettings, target: Target) -> None:
        super().__init__(settings, target)
        self._bulk: duckdb.DuckDBPyConnection | None = None

    def _make_engine(self) -> sa.Engine:
        return make_file_engine(self._settings)

    def _reported(self) -> AbstractContextManager[None]:
        return reported_file(self._settings)

    def _close(self) -> None:
        bulk, self._bulk = self._bulk, None
        if bulk is not None:
            bulk.close()

    def _repeated(self, transaction: Callable[[], T]) -> T:
        return patiently(transaction, duplicates=True)

    def _make_others(self, connection: sa.Connection) -> None:
        if self._target.key:
            connection.execute(sa.text(TURNS))
            connection.execute(sa.text(FIRST_TURN), {"target": self._target.table})

    def coordinates(self, *, dead: bool) -> Iterator[pa.RecordBatch]:
        """Where every row, or every dead letter, comes from; see `workbench.loading.Warehouse`."""
        query, parameters = coordinates_query(self._target, dead=dead)
        with self._reported(), closing(open_file(self._settings)) as connection:
            for batch in connection.execute(query, parameters).to_arrow_reader():
                yield batch.rename_columns([field.name for field in ORIGIN])

    def commit(self, load: Load) -> None:
        """Write all of *load* in one transaction; see `workbench.loading.Warehouse`."""

        def write(connection: duckdb.DuckDBPyConnection) -> None:
            if not advance(self._target, load.spans, lambda *asked: connection.execute(*asked).fetchall()):
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
            return last_coordinates(found)

        with self._refusals(lambda: made[0] if made else None):
            return patiently(lambda: self._transact(write))

    def _find_refused(self, load: Load) -> tuple[Mapping[int, str], Mapping[int, str]]:
        bulk = self._bulk
        assert bulk is not None
        deleted = load.rows.slice(0, 0) if load.deleted is None else load.deleted

        def delete(part: pa.Table) -> None:
            self._evolve(bulk, load.rows.schema)
            self._remove(bulk, part)

        with self._reported():
            return find_refused(bulk, load.rows, lambda part: self._put(bulk, part), deleted, delete)

    def _transact(self, write: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        with self._reported():
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
