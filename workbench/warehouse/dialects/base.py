"""What is the same in every dialect: opening and closing, the tables of a flow, claims, and what is asked of the ledger."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import ClassVar, Self, TypeVar

import pyarrow as pa
import sqlalchemy as sa

from workbench.errors import RowsRefused
from workbench.loading import DEAD_LETTERS, Claim, Load, Progress, Target
from workbench.sections import WarehouseSettings
from workbench.warehouse.ledger import claim_partitions, make_ledger, read_progress, refuse_if_gone
from workbench.warehouse.refused import rows_refused
from workbench.warehouse.schema import add_missing, ensure_table, quoted, split_name, table_columns

T = TypeVar("T")
# The letters of a flow, by its target and its topic; those of older versions have no target.
MINE = "(target = $1 OR target IS NULL) AND topic = $2"


class BaseWarehouse(ABC):
    """The part of `workbench.loading.Warehouse` that goes through SQLAlchemy.

    A dialect adds how it is reached (`_make_engine`, `_reported`) and how rows get in and out in
    bulk (`coordinates`, `commit`, `replay`); the other hooks are for those that need them.
    """

    #: Whether rows are merged by a unique index of the key.
    has_unique_keys: ClassVar[bool] = True

    def __init__(self, settings: WarehouseSettings, target: Target) -> None:
        self._settings = settings
        self._target = target
        self._engine: sa.Engine | None = None

    def __enter__(self) -> Self:
        self._engine = self._make_engine()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._engine is not None:
            self._engine.dispose()

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine, while the warehouse is entered."""
        assert self._engine is not None, "use the warehouse as a context manager"
        return self._engine

    def prepare(self, rows: pa.Schema) -> pa.Schema:
        """Make target, dead letters and ledger when they are not there; see `workbench.loading.Warehouse`."""
        return self._repeated(lambda: self._prepare(rows))

    def claim(self, cluster_id: str, topic_id: str, first_offsets: Mapping[int, int]) -> tuple[Claim, ...]:
        """Become the owner of partitions; see `workbench.loading.Warehouse`."""

        def claim() -> tuple[Claim, ...]:
            with self.transaction() as connection:
                self._lock_claims(connection)
                return claim_partitions(connection, self._target, (cluster_id, topic_id), first_offsets)

        return self._repeated(claim)

    def progress(self) -> Sequence[Progress]:
        """How far the flow has come; see `workbench.loading.Warehouse`."""
        with self.transaction() as connection:
            return read_progress(connection, self._target)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction of SQLAlchemy; see `workbench.loading.Warehouse`."""
        with self._reported(), self.engine.begin() as connection:
            yield connection

    def filtered(self) -> Iterator[pa.RecordBatch]:
        """Nothing: flows with steps write to PostgreSQL only; see `workbench.loading.Warehouse`."""
        return iter(())

    @abstractmethod
    def _make_engine(self) -> sa.Engine:
        """An engine that opens no connection yet."""

    @abstractmethod
    def _reported(self) -> AbstractContextManager[None]:
        """Turn the errors of the engine into ours."""

    def _close(self) -> None:  # noqa: B027 - a hook that need not be there
        """Close what was opened beside the engine."""

    def _repeated(self, transaction: Callable[[], T]) -> T:
        """Run a transaction, again where others may have been in its way."""
        return transaction()

    def _make_ledger(self, connection: sa.Connection) -> None:
        """Make the ledger when it is not there."""
        make_ledger(connection)

    def _make_others(self, connection: sa.Connection) -> None:  # noqa: B027 - a hook that need not be there
        """Make the tables that other dialects do not have."""

    def _lock_claims(self, connection: sa.Connection) -> None:  # noqa: B027 - a hook that need not be there
        """Let those who claim go one after the other, where the ledger's rows alone do not do it."""

    def _find_refused(self, load: Load) -> tuple[Mapping[int, str], Mapping[int, str]]:
        """The reason for each row, and for each deletion, that the table refuses, by its number.

        None where that is looked for beforehand.
        """
        return {}, {}

    def _prepare(self, rows: pa.Schema) -> pa.Schema:
        target = self._target
        with self.transaction() as connection:
            self._make_ledger(connection)
            is_new = ensure_table(
                connection, target.table, rows, key=target.key, evolves=target.evolves, unique=self.has_unique_keys
            )
            if not ensure_table(connection, target.dead_letters, DEAD_LETTERS, evolves=True):
                add_missing(connection, target.dead_letters, DEAD_LETTERS)
            self._make_others(connection)
            if is_new:
                refuse_if_gone(connection, target)
            return pa.schema(list(table_columns(connection, target.table).values()))

    @contextmanager
    def _refusals(self, made: Callable[[], Load | None]) -> Iterator[None]:
        """Find out which records of a load were refused.

        Args:
            made: the load; None when there was none yet.
        """
        try:
            yield
        except RowsRefused:
            if (load := made()) is None:
                raise
            rows, deletions = self._find_refused(load)
            if not rows and not deletions:
                raise
            raise rows_refused(self._target, rows, deletions) from None


def coordinates_query(target: Target, *, dead: bool) -> tuple[str, tuple[str, str] | None]:
    """SQL for partition and offset of every row, or of every dead letter of the flow, and its parameters."""
    if dead:
        letters = quoted(*split_name(target.dead_letters))
        return f"SELECT record_partition, record_offset FROM {letters} WHERE {MINE}", (target.table, target.topic)
    return f"SELECT _partition, _offset FROM {quoted(*split_name(target.table))}", None


def last_coordinates(letters: pa.Table) -> tuple[int, int]:
    """Partition and offset of the last of some dead letters."""
    partitions, offsets = (letters[name].to_pylist() for name in ("record_partition", "record_offset"))
    return max(zip(partitions, offsets, strict=True))
