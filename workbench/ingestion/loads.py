"""Batches to loads: rows with their origin, dead letters with their reason, one row for each key."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import RowsRefused
from workbench.ingestion.batch import Batch
from workbench.ingestion.decoding import Decoded, Undecodable
from workbench.loading import DEAD_LETTERS, JSON, ORIGIN, Load, Mode, Target

Positions = npt.NDArray[np.int64]  # numbers of records in a batch
LAST_MILLISECOND = 253_402_300_799_999  # of the year 9999
METADATA = {
    "key": pa.field("_key", pa.binary()),
    "timestamp": pa.field("_timestamp", pa.timestamp("us", tz="UTC")),
    "headers": pa.field("_headers", JSON),
}


@dataclass(frozen=True)
class LoadBuilder:
    """Makes the loads of one flow."""

    target: Target
    include: tuple[str, ...]  #: which of `METADATA`
    key_columns: pa.Schema  #: names and types of the key, for `Mode.MERGE`

    def columns(self, columns: pa.Schema) -> pa.Schema:
        """All columns of the table, for those that a decoder gives."""
        return pa.schema([*columns, *(METADATA[name] for name in self.include), *ORIGIN])

    def build(self, batch: Batch, decoded: Decoded) -> Load:
        """The load of a decoded batch."""
        whole = isinstance(decoded.positions, range)  # every record is a row
        positions = np.arange(len(batch.messages)) if whole else np.asarray(decoded.positions, np.int64)
        rows = self.with_origin(batch, decoded.rows, positions)
        undecodable = list(decoded.undecodable)
        deleted = None
        if self.target.mode is Mode.MERGE:
            rows, deleted, undecodable = self._merged(batch, rows, positions, undecodable)
        return Load(
            spans=batch.spans,
            rows=rows,
            dead_letters=self._letters(
                (batch.messages[each.position], each.reason) for each in sorted(undecodable, key=lambda e: e.position)
            ),
            deleted=deleted,
            filtered=batch.filtered,
        )

    def with_origin(self, batch: Batch, rows: pa.Table, positions: Positions) -> pa.Table:
        """The rows with what `include` asks for, and with where they come from."""
        everything = len(positions) == len(batch.messages)
        partitions = batch.partitions if everything else batch.partitions[positions]
        offsets = batch.offsets if everything else batch.offsets[positions]
        for name in self.include:
            values = [_METADATA_VALUES[name](batch.messages[position]) for position in positions]
            rows = rows.append_column(METADATA[name], _array(values, METADATA[name].type))
        return rows.append_column(ORIGIN[0], pa.array(partitions)).append_column(ORIGIN[1], pa.array(offsets))

    def _merged(
        self, batch: Batch, rows: pa.Table, positions: Positions, undecodable: Sequence[Undecodable]
    ) -> tuple[pa.Table, pa.Table, list[Undecodable]]:
        """Rows and deletions with only the last record of each key; records without a key are dead letters."""
        tombstones = [each for each in undecodable if batch.values[each.position] is None and not each.is_refused]
        rest = [each for each in undecodable if each.is_refused or batch.values[each.position] is not None]
        rows, positions, keyless = self._with_key(rows, positions)
        deleted, deleted_positions, unreadable = self._deletions(batch, tombstones)
        last = self._last_positions(rows, positions, deleted, deleted_positions)
        rows = rows.filter(pa.array(np.isin(positions, last)))
        deleted = deleted.filter(pa.array(np.isin(deleted_positions, last)))
        return rows, deleted, [*rest, *keyless, *unreadable]

    def _with_key(self, rows: pa.Table, positions: Positions) -> tuple[pa.Table, Positions, list[Undecodable]]:
        """The rows whose key is whole, their positions in the batch, and what is wrong with the others."""
        missing = np.zeros(rows.num_rows, bool)
        for name in self.target.key:
            missing |= pc.is_null(rows[name]).to_numpy(zero_copy_only=False)
        reason = f"a column of the key ({', '.join(self.target.key)}) is null"
        keyless = [Undecodable(int(position), reason) for position in positions[missing]]
        return rows.filter(pa.array(~missing)), positions[~missing], keyless

    def _deletions(
        self, batch: Batch, tombstones: Iterable[Undecodable]
    ) -> tuple[pa.Table, Positions, list[Undecodable]]:
        """The keys that tombstones delete, their positions in the batch, and the tombstones without a usable key."""
        gone, positions, unreadable = [], [], []
        for each in tombstones:
            record = batch.messages[each.position]
            try:
                key = tombstone_key(record.key(), self.key_columns)
                gone.append({**key, "_partition": record.partition(), "_offset": record.offset()})
                positions.append(each.position)
            except ValueError as error:
                unreadable.append(Undecodable(each.position, str(error)))
        deleted = pa.Table.from_pylist(gone, schema=pa.schema([*self.key_columns, *ORIGIN]))
        return deleted, np.asarray(positions, np.int64), unreadable

    def _last_positions(
        self, rows: pa.Table, positions: Positions, deleted: pa.Table, deleted_positions: Positions
    ) -> Positions:
        """The position of the last record of each key, whether a row or a deletion."""
        names = list(self.target.key)
        # The key may have been widened since the flow was declared.
        both = pa.concat_tables([rows.select(names), deleted.select(names)], promote_options="permissive")
        last: Positions = (
            both.append_column("position", pa.array(np.concatenate([positions, deleted_positions])))
            .group_by(names, use_threads=False)
            .aggregate([("position", "max")])["position_max"]
            .to_numpy()
        )
        return last

    def _letters(self, records: Iterable[tuple[Any, str]]) -> pa.Table:
        letters = [self._letter(record, reason) for record, reason in records]
        columns = {name: [letter[name] for letter in letters] for name in DEAD_LETTERS.names}
        arrays = [_array(columns[field.name], field.type) for field in DEAD_LETTERS]
        return pa.Table.from_arrays(arrays, schema=DEAD_LETTERS)

    def _letter(self, record: Any, reason: str) -> dict[str, Any]:
        return {
            "topic": self.target.topic,
            "record_partition": record.partition(),
            "record_offset": record.offset(),
            "record_timestamp": _timestamp(record),
            "record_key": record.key(),
            "record_value": record.value(),
            "reason": reason,
            "target": self.target.table,
            "record_headers": _headers(record),
            "encrypted_with": None,  # who commits it may encrypt it
        }


def refused_records(load: Load, error: RowsRefused) -> dict[tuple[int, int], str]:
    """Why a table has refused records of a load, by their partition and offset."""
    refused: dict[tuple[int, int], str] = {}
    for rows, reasons in ((load.rows, error.reasons), (load.deleted, error.deletions)):
        if rows is not None and reasons:
            numbers = sorted(reasons)
            origin = rows.select(["_partition", "_offset"]).take(pa.array(numbers, pa.int64())).to_pylist()
            refused |= {
                (each["_partition"], each["_offset"]): reasons[number]
                for number, each in zip(numbers, origin, strict=True)
            }
    return refused


def refuse(decoded: Decoded, batch: Batch, refused: Mapping[tuple[int, int], str]) -> Decoded:
    """The decoded batch with the records that a table has refused among the undecodable.

    The load is built anew from it: without its last record, the one before counts for a key.

    Args:
        decoded: of the batch.
        batch: the records.
        refused: the reasons, by partition and offset; of other batches' records, too.
    """
    origin = enumerate(zip(batch.partitions.tolist(), batch.offsets.tolist(), strict=True))
    reasons = {position: refused[each] for position, each in origin if each in refused}
    keep = [position not in reasons for position in decoded.positions]
    return Decoded(
        rows=decoded.rows.filter(pa.array(keep, pa.bool_())),
        positions=tuple(each for each, kept in zip(decoded.positions, keep, strict=True) if kept),
        undecodable=(
            *(each for each in decoded.undecodable if each.position not in reasons),  # a tombstone was among them
            *(Undecodable(position, reason, is_refused=True) for position, reason in reasons.items()),
        ),
    )


def tombstone_key(key: bytes | None, columns: pa.Schema) -> dict[str, Any]:
    """The key columns that a record without a value deletes.

    The record's key is the text of the one column, or a JSON object (or value) with all of them.

    Raises:
        ValueError: when it is neither.
    """
    if key is None:
        raise ValueError("the record has neither value nor key: nothing says what to delete")
    try:
        found = orjson.loads(key)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        values = found
    elif len(columns) == 1:
        values = {columns.names[0]: found if isinstance(found, str) else key.decode("utf-8", "strict")}
    else:
        raise ValueError(f"the key of the tombstone is no JSON object with {', '.join(columns.names)}")
    if any(not isinstance(values.get(column.name), str | int | float) for column in columns):
        raise ValueError(f"the key of the tombstone lacks a value of ({', '.join(columns.names)})")
    if any("\0" in str(values[column.name]) for column in columns):
        raise ValueError("the key of the tombstone holds the character NUL, which SQL text cannot")
    try:
        return {column.name: pa.scalar(str(values[column.name])).cast(column.type).as_py() for column in columns}
    except (KeyError, ValueError) as error:
        raise ValueError(f"the key of the tombstone does not fit ({', '.join(columns.names)}): {error}") from None


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if kind == JSON:
        return pa.ExtensionArray.from_storage(JSON, pa.array(values, pa.string()))
    return pa.array(values, kind)


def _timestamp(record: Any) -> int | None:
    kind, milliseconds = record.timestamp()
    # Kind 0 is "no timestamp"; a producer may write anything, SQL has an end.
    return milliseconds * 1000 if kind and 0 <= milliseconds <= LAST_MILLISECOND else None


def _headers(record: Any) -> str | None:
    """The headers as a JSON array of [name, value]; a value that is no UTF-8 becomes {"base64": …}."""
    headers = record.headers()
    if isinstance(headers, str):  # of a dead letter, which holds them so
        return headers
    return orjson.dumps([[name, _header_value(value)] for name, value in headers]).decode() if headers else None


def _header_value(value: bytes | None) -> object:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


_METADATA_VALUES = {"key": lambda record: record.key(), "timestamp": _timestamp, "headers": _headers}
