"""Redshift: rows by Parquet files and one COPY into a temporary table, then one transaction with dead letters and offsets.

Not run against Redshift: its statements are tested as text, and on PostgreSQL with a double of COPY.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, TypeVar
from uuid import uuid4

import pyarrow as pa
import sqlalchemy as sa

from workbench.errors import WarehouseUnavailable
from workbench.loading import DEAD_LETTERS, ORIGIN, Load, Target
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects import redshift_sql as sql
from workbench.warehouse.dialects.base import BaseWarehouse
from workbench.warehouse.dialects.evolution import find_changes
from workbench.warehouse.dialects.patience import patiently
from workbench.warehouse.dialects.redshift_engine import (
    Driver,
    make_driver,
    make_redshift_engine,
    reported_redshift,
)
from workbench.warehouse.dialects.redshift_load import read_columns, refuse_rows, run, stage_load, write_load
from workbench.warehouse.dialects.redshift_stage import Area, as_letters, base_name, folder, row_parts
from workbench.warehouse.ledger import LEDGER, is_written, taken_over
from workbench.warehouse.schema import split_name

T = TypeVar("T")
FETCHED = 50_000


class RedshiftWarehouse(BaseWarehouse):
    """A flow's tables in Redshift (`workbench.loading.Warehouse`).

    Keys are not enforced there: the ledger's compare-and-set decides who writes, and the lock of
    the ledger puts those who claim, merge or alter one after the other.

    Args:
        settings: the cluster, the staging area and the role that reads it.
        target: what the flow writes.
        driver: of the DB-API; None is `redshift_connector`.
        files: a pyarrow.fs.FileSystem in which the bucket is a folder; None is S3.
    """

    has_unique_keys = False

    def __init__(
        self, settings: WarehouseSettings, target: Target, *, driver: Driver | None = None, files: Any = None
    ) -> None:
        super().__init__(settings, target)
        self._driver = driver
        self._files = files

    def _make_engine(self) -> sa.Engine:
        return make_redshift_engine(self._driver or make_driver(self._settings))

    def _reported(self) -> AbstractContextManager[None]:
        return reported_redshift(self._settings)

    def _repeated(self, transaction: Callable[[], T]) -> T:
        return patiently(transaction)

    def _make_ledger(self, connection: sa.Connection) -> None:
        run(connection, sql.LEDGER_SCHEMA, sql.LEDGER, sql.LOCK)

    def _lock_claims(self, connection: sa.Connection) -> None:
        run(connection, sql.LOCK)

    def coordinates(self, *, dead: bool) -> Iterator[pa.RecordBatch]:
        """Where every row, or every dead letter, comes from; see `workbench.loading.Warehouse`."""
        names = ("record_partition", "record_offset") if dead else ("_partition", "_offset")
        schema, name = split_name(self._target.dead_letters if dead else self._target.table)
        table = sa.table(name, *(sa.column(each) for each in names), schema=schema)
        query = sa.select(*table.c)
        if dead:
            letters = self._letters()
            query = sa.select(*(letters.c[each] for each in names)).where(self._mine(letters))
        with self.transaction() as connection:
            for part in connection.execute(query).partitions(FETCHED):
                arrays = [
                    pa.array(values, field.type) for values, field in zip(zip(*part, strict=True), ORIGIN, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(ORIGIN)))

    def commit(self, load: Load) -> None:
        """Write all of *load* in one transaction; see `workbench.loading.Warehouse`."""
        spans = [span for span in load.spans if span.end > span.start]
        if not spans:
            return

        def take(connection: sa.Connection) -> bool:
            return self._advance(connection, load)

        self._stage_and_write(load, base_name(self._target, load), row_parts(self._target, load), take)

    def replay(self, after: tuple[int, int], limit: int, load: Callable[[pa.Table], Load]) -> tuple[int, int] | None:
        """Take dead letters and write what is made of them; see `workbench.loading.Warehouse`."""
        letters = self._letters()
        partition, offset = letters.c.record_partition, letters.c.record_offset
        later = (partition > after[0]) | ((partition == after[0]) & (offset > after[1]))
        query = sa.select(*letters.c).where(self._mine(letters) & later).order_by(partition, offset).limit(limit)
        with self.transaction() as connection:
            found = [row._asdict() for row in connection.execute(query)]
        if not found:
            return None
        last = (int(found[-1]["record_partition"]), int(found[-1]["record_offset"]))
        made = load(as_letters(found))

        def take(connection: sa.Connection) -> bool:
            """Delete what was read; when that is not there any more, somebody else has replayed it."""
            earlier = (partition < last[0]) | ((partition == last[0]) & (offset <= last[1]))
            taken = connection.execute(sa.delete(letters).where(self._mine(letters) & later & earlier)).rowcount
            if taken != len(found):
                raise WarehouseUnavailable(
                    f"{len(found)} dead letters were read, but {taken} are there", remedy="Try again."
                )
            return True

        name = f"{folder(self._target)}/replay/{uuid4().hex}"
        self._stage_and_write(made, name, {f"{name}.parquet": made.rows} if made.rows.num_rows else {}, take, lock=True)
        return last

    def _stage_and_write(
        self,
        load: Load,
        name: str,
        parts: Mapping[str, pa.Table],
        take: Callable[[sa.Connection], bool],
        *,
        lock: bool = False,
    ) -> None:
        """Copy all into temporary tables, then move it in one transaction that *take* begins.

        COPY stands outside of that transaction: while it runs, the ledger is not locked.
        """
        target, keys = self._target, list[str]()
        with self._reported(), self.engine.connect() as connection:
            try:
                with connection.begin():
                    columns = read_columns(connection, target.table)
                refuse_rows(target, load, columns)
                changes = find_changes(load.rows.schema, {name: column.type for name, column in columns.items()})
                with connection.begin():
                    stages = stage_load(connection, self._area, load, name=name, parts=parts, keys=keys)
                with connection.begin():
                    if lock or changes or target.key:
                        run(connection, sql.LOCK)
                    if take(connection):
                        write_load(connection, target, load, stages)
                    run(connection, *(sql.drop_statement(stage) for stage in stages))
            except BaseException:
                connection.invalidate()  # its temporary tables go with it
                raise
            finally:
                if keys:
                    self._area.remove(keys)

    def _advance(self, connection: sa.Connection, load: Load) -> bool:
        """Move the offsets; False when the load had been written before.

        Raises:
            TakenOver: when a span is no longer ours, or begins elsewhere than the ledger says.
        """
        mine = (LEDGER.c.target == self._target.table) & (LEDGER.c.topic == self._target.topic)
        spans = [span for span in load.spans if span.end > span.start]
        lost = set()
        for span in spans:
            ours = (LEDGER.c.partition == span.partition) & (LEDGER.c.epoch == span.epoch)
            update = sa.update(LEDGER).where(mine & ours & (LEDGER.c.next_offset == span.start))
            if not connection.execute(update.values(next_offset=span.end, updated_at=sa.func.now())).rowcount:
                lost.add(span.partition)
        if len(lost) == len(spans):
            stored = connection.execute(sa.select(LEDGER.c.partition, LEDGER.c.epoch, LEDGER.c.next_offset).where(mine))
            if is_written(spans, [tuple(row) for row in stored]):
                return False
        if lost:
            raise taken_over(self._target, lost)
        return True

    @cached_property
    def _area(self) -> Area:
        url = self._settings.staging_url.rstrip("/")
        if self._files is None:
            from pyarrow import fs

            # Asks S3 for the region of the bucket.
            self._files, _ = fs.FileSystem.from_uri(url)
        return Area(self._files, url.removeprefix("s3://"), url, self._settings.iam_role)

    def _letters(self) -> sa.TableClause:
        schema, name = split_name(self._target.dead_letters)
        return sa.table(name, *(sa.column(each) for each in DEAD_LETTERS.names), schema=schema)

    def _mine(self, letters: sa.TableClause) -> sa.ColumnElement[bool]:
        return (letters.c.topic == self._target.topic) & (
            (letters.c.target == self._target.table) | letters.c.target.is_(None)
        )
