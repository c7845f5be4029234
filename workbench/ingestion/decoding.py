"""JSON records to an Arrow table of a declared schema; what does not fit is told apart, record by record."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from workbench.errors import SettingsError

TYPES = {
    "bool": pa.bool_(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
REASON_CHARACTERS = 300


@dataclass(frozen=True)
class Undecodable:
    """A record that does not fit, by its position in the batch."""

    position: int
    reason: str


@dataclass(frozen=True)
class Decoded:
    """A batch after decoding: the rows that fit, where each came from, and the records that did not."""

    rows: pa.Table
    positions: tuple[int, ...] | range  #: of each row's record in the batch
    undecodable: tuple[Undecodable, ...]


def parse_schema(columns: dict[str, str], where: str = "schema") -> pa.Schema:
    """The Arrow schema of a mapping of column names to type names.

    Raises:
        SettingsError: naming every column whose type is unknown.
    """
    problems = [
        f"{where}: column {name} has the unknown type {kind!r}. Known are {', '.join(TYPES)}."
        for name, kind in columns.items()
        if kind not in TYPES
    ]
    if problems:
        raise SettingsError(problems)
    return pa.schema([pa.field(name, TYPES[kind]) for name, kind in columns.items()])


class JsonDecoder:
    """Decodes batches of JSON objects (RFC 8259) to rows of one schema.

    Fields that the schema does not name are left out; absent fields and JSON nulls are null.
    Timestamps are RFC 3339 down to microseconds; without an offset they are UTC.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        record = pa.struct(list(schema))
        self._options = pj.ParseOptions(
            explicit_schema=pa.schema([("record", record), ("position", pa.int64())]),
            unexpected_field_behavior="ignore",
        )

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode every value; a bad one costs a binary search, not the batch."""
        present = [position for position, value in enumerate(values) if value is not None]
        bad = [
            Undecodable(position, "the record has no value (a tombstone)")
            for position, value in enumerate(values)
            if value is None
        ]
        tables: list[pa.Table] = []
        good: list[int] = []
        self._decode(values, present, tables, good, bad)
        rows = pa.concat_tables(tables) if tables else self.schema.empty_table()
        return Decoded(rows, tuple(good), tuple(sorted(bad, key=lambda each: each.position)))

    def _decode(
        self,
        values: Sequence[bytes | None],
        positions: Sequence[int],
        tables: list[pa.Table],
        good: list[int],
        bad: list[Undecodable],
    ) -> None:
        if not positions:
            return
        try:
            tables.append(self._parse([values[position] or b"" for position in positions]))
            good.extend(positions)
        except (pa.ArrowInvalid, ValueError) as error:
            if len(positions) == 1:
                bad.append(Undecodable(positions[0], _reason(error)))
                return
            middle = len(positions) // 2
            self._decode(values, positions[:middle], tables, good, bad)
            self._decode(values, positions[middle:], tables, good, bad)

    def _parse(self, values: Sequence[bytes]) -> pa.Table:
        """Parse all or raise.

        Each value is wrapped with its number in the batch. A value that holds two documents, or
        none, or part of a line, breaks the wrapper or the numbering: rows cannot shift.
        """
        wrapped = b"".join(
            chain.from_iterable(
                (b'{"record":', value, b',"position":%d}\n' % number) for number, value in enumerate(values)
            )
        )
        table = pj.read_json(
            io.BytesIO(wrapped),
            read_options=pj.ReadOptions(block_size=len(wrapped) + 1, use_threads=False),
            parse_options=self._options,
        )
        if table.num_rows != len(values) or not table["position"].combine_chunks().equals(
            pa.array(range(len(values)), pa.int64())
        ):
            raise ValueError("the value is not one JSON document")
        records = table["record"].combine_chunks()
        if records.null_count:
            raise ValueError("the value is null, not an object")
        rows = pa.Table.from_arrays(records.flatten(), schema=self.schema)
        _check_text(rows)
        return rows


def _check_text(rows: pa.Table) -> None:
    """Raise for text that no SQL database takes: invalid UTF-8 and the character NUL."""
    for field in rows.schema:
        if pa.types.is_string(field.type):
            column = rows[field.name]
            column.validate(full=True)
            if pc.any(pc.match_substring(column, "\0")).as_py():
                raise ValueError(f"column {field.name} holds the character NUL, which SQL text cannot")


def _reason(error: Exception) -> str:
    # Arrow counts rows and names our wrapper; neither means anything to who reads the reason.
    text = str(error).replace("(/record/", "(/").replace(" in row 0", "")
    # The reason quotes the record, and SQL text cannot hold the character NUL.
    return text.replace("\0", "\\0")[:REASON_CHARACTERS]
