"""What passes between a flow and a warehouse: claims, and the load that one transaction writes.

`workbench.ingestion` makes loads, `workbench.warehouse.dialects` write them; neither knows the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import pyarrow as pa

if TYPE_CHECKING:
    import sqlalchemy

JSON = pa.json_(pa.string())
# Every row carries where it came from.
ORIGIN = (pa.field("_partition", pa.int32(), nullable=False), pa.field("_offset", pa.int64(), nullable=False))
DEAD_LETTERS = pa.schema([
    pa.field("topic", pa.string(), nullable=False),
    pa.field("record_partition", pa.int32(), nullable=False),
    pa.field("record_offset", pa.int64(), nullable=False),
    pa.field("record_timestamp", pa.timestamp("us", tz="UTC")),
    pa.field("record_key", pa.binary()),
    pa.field("record_value", pa.binary()),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("target", pa.string()),
    pa.field("record_headers", JSON),
    pa.field("encrypted_with", pa.string()),
])  # fmt: skip


class Mode(StrEnum):
    """How rows go into a table."""

    APPEND = "append"  #: each record is a row
    MERGE = "merge"  #: each key has one row, made by its last record; a tombstone deletes it


@dataclass(frozen=True, kw_only=True)
class Target:
    """The table that a flow writes, and how."""

    table: str  #: schema.table
    topic: str
    mode: Mode = Mode.APPEND
    key: tuple[str, ...] = ()  #: columns that identify a row, for `Mode.MERGE`
    evolves: bool = False  #: whether a load may add columns and widen types

    @property
    def dead_letters(self) -> str:
        """The table of the records that did not fit, beside the target."""
        return f"{self.table.partition('.')[0]}.dead_letters"


@dataclass(frozen=True)
class Claim:
    """What a worker holds of one partition: where to go on, and the epoch that says it is the owner."""

    partition: int
    next_offset: int
    epoch: int


@dataclass(frozen=True)
class Span:
    """The offsets [start, end) of one partition that a load covers, read under one claim."""

    partition: int
    start: int
    end: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Load:
    """All that one transaction writes."""

    spans: tuple[Span, ...]
    rows: pa.Table  #: columns of the flow and `ORIGIN`; under `Mode.MERGE` at most one row for each key
    dead_letters: pa.Table  #: of the schema `DEAD_LETTERS`
    deleted: pa.Table | None = None  #: keys whose last record is a tombstone, for `Mode.MERGE`
    filtered: pa.Table | None = None  #: `ORIGIN` of records that the flow's own steps left out


@dataclass(frozen=True)
class Progress:
    """What the warehouse knows of one partition of a flow."""

    partition: int
    cluster_id: str
    topic_id: str
    first_offset: int | None  #: where the flow began; None when it began before this was kept
    next_offset: int
    epoch: int  #: of the last claim
    seconds_since_commit: float


class Warehouse(Protocol):
    """What a flow needs of a warehouse. A context manager; one thread at a time may `commit`."""

    def prepare(self, rows: pa.Schema) -> pa.Schema:
        """Make the tables when they are not there, and return the columns that the target has.

        Raises:
            WarehouseError: when a table is there and does not fit, or is gone.
        """

    def claim(self, cluster_id: str, topic_id: str, first_offsets: Mapping[int, int]) -> tuple[Claim, ...]:
        """Become the owner of partitions; one that is new begins at its first offset.

        May be called from another thread than `commit`.

        Raises:
            WarehouseError: when the offsets that are stored belong to another cluster, or to a
                topic of the same name that is no more.
        """

    def commit(self, load: Load) -> None:
        """Write all of *load* in one transaction, or nothing.

        A load that was written already, by a commit whose answer was lost, is not written again:
        the call just returns.

        Raises:
            TakenOver: when somebody else has claimed a partition.
            RowsRefused: when single rows do not fit the table.
            WarehouseUnavailable: when the same call may succeed later.
            WarehouseError: when it will not.
        """

    def progress(self) -> Sequence[Progress]:
        """How far the flow has come, by partition; empty when it never ran. Changes nothing."""

    def coordinates(self, *, dead: bool) -> Iterator[pa.RecordBatch]:
        """Partition and offset (`ORIGIN`) of every row of the target, or of every dead letter of the flow."""

    def filtered(self) -> Iterator[pa.RecordBatch]:
        """Partition and offset (`ORIGIN`) of every record that the flow's own steps left out."""

    def replay(self, after: tuple[int, int], limit: int, load: Callable[[pa.Table], Load]) -> tuple[int, int] | None:
        """Take dead letters of the flow and write the load that is made of them, in one transaction.

        Args:
            after: partition and offset of the last letter that was taken before.
            limit: how many to take, in the order of partition and offset.
            load: makes rows, and dead letters again, of letters (of the schema `DEAD_LETTERS`).

        Returns:
            Partition and offset of the last letter that was taken; None when there was none.

        Raises:
            RowsRefused: when single rows do not fit the table; nothing has changed.
        """

    def transaction(self) -> AbstractContextManager[sqlalchemy.Connection]:
        """A transaction of SQLAlchemy, for everything that is not bulk; of `workbench.warehouse` only."""

    def __enter__(self) -> Self:
        """Open nothing yet: connections are made when they are needed."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections; what was not committed is rolled back."""


def with_json_as_text(rows: pa.Table) -> pa.Table:
    """The rows with JSON as the text that it is, for what does not know Arrow's type."""
    for index, field in enumerate(rows.schema):
        if field.type == JSON:
            rows = rows.set_column(index, field.with_type(pa.string()), rows.column(index).cast(pa.string()))
    return rows
