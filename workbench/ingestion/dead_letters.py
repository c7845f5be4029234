"""Dead letters tried again: decoded anew and moved into the table, each once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from workbench.errors import RowsRefused, WarehouseError
from workbench.ingestion.batch import Batch
from workbench.ingestion.decoding import Decoder
from workbench.ingestion.decoding.guarded import decode_guarded
from workbench.ingestion.loads import LoadBuilder, refuse, refused_records
from workbench.loading import Load, Warehouse

TAKEN = 10_000
Coordinates = tuple[int, int]  #: partition and offset of a record


@dataclass(frozen=True)
class StoredRecord:
    """A dead letter with the methods of the record that it was (confluent_kafka.Message)."""

    letter: dict[str, Any]

    def partition(self) -> int:
        """Partition that it was in."""
        return int(self.letter["record_partition"])

    def offset(self) -> int:
        """Offset that it had."""
        return int(self.letter["record_offset"])

    def key(self) -> bytes | None:
        """Its key."""
        found: bytes | None = self.letter["record_key"]
        return found

    def value(self) -> bytes | None:
        """Its value."""
        found: bytes | None = self.letter["record_value"]
        return found

    def timestamp(self) -> tuple[int, int]:
        """Kind (0 is none) and milliseconds since 1970."""
        time = self.letter["record_timestamp"]
        return (0, 0) if time is None else (1, round(time.timestamp() * 1000))

    def headers(self) -> str | None:
        """Its headers, as they are stored."""
        found: str | None = self.letter["record_headers"]
        return found


@dataclass(frozen=True)
class Replayed:
    """What became of the dead letters."""

    moved: int  #: into the table
    left: int  #: dead as before, with the reason of now


def replay_dead_letters(
    warehouse: Warehouse,
    loads: LoadBuilder,
    decoder: Decoder,
    *,
    progress: Callable[[int], object] = lambda _: None,
    at: Coordinates | None = None,
) -> Replayed:
    """Decode every dead letter of a flow again, or one of them, and move what fits into the table.

    Each letter is taken, and its row written, in one transaction: interrupted at any instant, a
    letter is either still one or a row. Two who replay at once share the letters.

    Args:
        warehouse: that of the flow, entered and prepared.
        loads: of the flow.
        decoder: of the flow.
        progress: called with the number of letters looked at since the last call.
        at: partition and offset of the only one; None is all of them.

    Raises:
        WarehouseError: when the warehouse refuses; what was moved before stays moved. Also when
            there is no letter *at* that place.
    """
    moved = left = 0
    after: Coordinates | None = (-1, -1) if at is None else (at[0], at[1] - 1)
    while after is not None:
        load = Loading(loads, decoder, at)
        taken = _take(warehouse, load, after, TAKEN if at is None else 1)
        if at is not None and taken is None:
            raise _no_letter(at)
        after = taken if at is None else None
        moved, left = moved + load.rows, left + load.dead
        progress(load.rows + load.dead)
    return Replayed(moved, left)


class Loading:
    """Makes a load of letters; records that the table has refused are dead again."""

    def __init__(self, loads: LoadBuilder, decoder: Decoder, only: Coordinates | None = None) -> None:
        self._loads = loads
        self._only = only
        self._decoder = decoder
        self._refused: dict[Coordinates, str] = {}
        self._made: Load | None = None
        self.rows = self.dead = 0

    def __call__(self, letters: pa.Table) -> Load:
        """The load that these letters make now."""
        records = [StoredRecord(letter) for letter in letters.sort_by("record_offset").to_pylist()]
        # The next one is taken when that one is gone; what is raised here leaves it where it was.
        if self._only is not None and [(each.partition(), each.offset()) for each in records] != [self._only]:
            raise _no_letter(self._only)
        batch = Batch(
            messages=records,
            values=[record.value() for record in records],
            partitions=np.array([record.partition() for record in records], np.int32),
            offsets=np.array([record.offset() for record in records], np.int64),
            spans=(),
        )
        decoded = decode_guarded(self._decoder, batch.values, are_leftovers=True)
        if self._refused:
            decoded = refuse(decoded, batch, self._refused)
        self._made = load = self._loads.build(batch, decoded)
        self.rows, self.dead = load.rows.num_rows, load.dead_letters.num_rows
        return load

    def refuse(self, error: RowsRefused) -> bool:
        """Remember the records that the table has refused; whether it named any."""
        refused = refused_records(self._made, error) if self._made is not None else {}
        self._refused |= refused
        return bool(refused)


def _take(warehouse: Warehouse, load: Loading, after: Coordinates, limit: int) -> Coordinates | None:
    while True:
        try:
            return warehouse.replay(after, limit, load)
        except RowsRefused as error:
            if not load.refuse(error):
                raise


def _no_letter(at: Coordinates) -> WarehouseError:
    return WarehouseError(
        f"there is no dead letter at {at[0]}:{at[1]}",
        remedy="It was moved or deleted meanwhile, or another replay holds it; look at the dead letters again.",
    )
