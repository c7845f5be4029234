"""JSON records to an Arrow table; what does not fit is told apart, record by record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from workbench.ingestion.decoding import Decoded, Undecodable
from workbench.ingestion.decoding.contract import QUARANTINE, Contract, column_fault, widened
from workbench.ingestion.decoding.json_reader import read_records
from workbench.ingestion.decoding.json_texts import as_json, as_object, other_fields
from workbench.ingestion.decoding.suspects import certain_fault, find_suspects
from workbench.loading import JSON

REASON_CHARACTERS = 300
CHUNK_RECORDS = 8192
TRIED_RECORDS = 20
UNEXPECTED = {
    Contract.IGNORE: "ignore",
    Contract.EVOLVE: "infer",
    Contract.FREEZE: "error",
    Contract.QUARANTINE: "error",
}
TOMBSTONE = "the record has no value (a tombstone)"
ROW_NUMBER = re.compile(r" in row (\d+)$")
TOO_NARROW = "Failed to convert JSON to int"
MIXED = " changed from "
TWICE_WITHIN = re.compile(r"Column\(/[^/]+/.+\) was specified twice")


@dataclass
class _Attempt:
    """A batch on its way: what fits so far, and what does not."""

    tables: list[pa.Table] = field(default_factory=list)
    good: list[int] = field(default_factory=list)
    bad: list[Undecodable] = field(default_factory=list)


class JsonDecoder:
    """Decodes batches of JSON objects (RFC 8259) to rows of one schema.

    Absent fields and JSON nulls are null. Timestamps are RFC 3339 down to microseconds; without
    an offset they are UTC. Under `Contract.EVOLVE` the schema grows with what the records hold;
    `schema` is what it has grown to.
    """

    def __init__(self, schema: pa.Schema, contract: Contract = Contract.IGNORE) -> None:
        self.schema = schema
        self._contract = contract

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode every value that can be; the others cost a search in their neighbourhood, not the batch."""
        while True:
            attempt = self._attempt(values)
            if not self._widen(values, attempt.bad):
                break
        attempt.bad.sort(key=lambda each: each.position)
        whole = len(attempt.good) == len(values)
        return Decoded(
            self._united(attempt.tables), range(len(values)) if whole else tuple(attempt.good), tuple(attempt.bad)
        )

    def _attempt(self, values: Sequence[bytes | None]) -> _Attempt:
        everything = range(len(values))
        attempt = _Attempt()
        error = self._take(values, everything, attempt, quick=True)
        if error is None:
            return attempt
        present: Sequence[int] = everything
        if isinstance(error, TypeError):
            present = [position for position in everything if values[position] is not None]
            attempt.bad += [Undecodable(position, TOMBSTONE) for position in everything if values[position] is None]
            error = self._take(values, present, attempt, quick=True)
        if error is not None:
            self._separate(values, present, attempt)
        return attempt

    def _separate(self, values: Sequence[bytes | None], present: Sequence[int], attempt: _Attempt) -> None:
        """Take what looks well in large pieces, and each record that does not by itself."""
        closed = self._contract is Contract.FREEZE
        found = find_suspects(self._of(values, present), self.schema, closed=closed)
        suspects = [present[index] for index in found]
        faults = {each: fault for each in suspects if (fault := certain_fault(values[each] or b"")) is not None}
        attempt.bad += [Undecodable(position, fault) for position, fault in faults.items()]
        alone = [position for position in suspects if position not in faults]
        if len(alone) > len(present) // 4 and not self._are_bad(
            [values[each] or b"" for each in alone[:TRIED_RECORDS]]
        ):
            alone = []  # msgspec reads these records otherwise than Arrow: a time in another form, for one
        apart = {*alone, *faults}
        rest = [position for position in present if position not in apart]
        for start in range(0, len(rest), CHUNK_RECORDS):
            self._isolate(values, rest[start : start + CHUNK_RECORDS], attempt)
        for position in alone:
            self._isolate(values, [position], attempt)

    def _are_bad(self, sample: Sequence[bytes]) -> bool:
        """Whether none of these records can be parsed."""
        return not any(self._take([value], [0], _Attempt()) is None for value in sample)

    @staticmethod
    def _of(values: Sequence[bytes | None], positions: Sequence[int]) -> Sequence[Any]:
        return values if len(positions) == len(values) else [values[position] for position in positions]

    def _take(
        self, values: Sequence[bytes | None], positions: Sequence[int], attempt: _Attempt, *, quick: bool = False
    ) -> Exception | None:
        """Parse all of these records, or none and return what went wrong."""
        if not positions:
            return None
        try:
            table = self._parse(self._of(values, positions), quick=quick)
        # pyarrow.ArrowInvalid and msgspec's error are ValueErrors, but for what is nested too deep; a tombstone
        # cannot be joined with bytes.
        except (ValueError, TypeError, RecursionError) as error:
            return error.with_traceback(None)  # its frames hold the records
        attempt.tables.append(table)
        attempt.good.extend(positions)
        return None

    def _isolate(self, values: Sequence[bytes | None], positions: Sequence[int], attempt: _Attempt) -> None:
        """Parse what can be parsed of these records; the others become undecodable."""
        pending = [positions]
        while pending:
            part = pending.pop()
            error = self._take(values, part, attempt)
            if error is None:
                continue
            if len(part) == 1:
                attempt.bad.append(Undecodable(part[0], self._reason(error, values[part[0]] or b"")))
                continue
            told = ROW_NUMBER.search(str(error))  # Arrow often tells the row; else the halves are tried
            row = int(told[1]) if told else len(part)
            middle = len(part) // 2
            if row < len(part):
                # What follows is halved, too: where one record is bad, more may be.
                half = (row + 1 + len(part)) // 2
                cuts = [part[:row], part[row : row + 1], part[row + 1 : half], part[half:]]
            else:
                cuts = [part[:middle], part[middle:]]
            pending += [each for each in reversed(cuts) if each]

    def _parse(self, values: Sequence[Any], *, quick: bool) -> pa.Table:
        """Parse all or raise; none of the values is None."""
        try:
            table = read_records(values, self.schema, UNEXPECTED[self._contract], quick=quick)
        except ValueError as error:
            if self._contract is not Contract.QUARANTINE or "unexpected field" not in str(error):
                raise
            table = read_records(values, self.schema, "ignore")
            return table.append_column(QUARANTINE, _unknown_fields(values, self.schema))
        if self._contract is Contract.QUARANTINE:
            return table.append_column(QUARANTINE, pa.nulls(table.num_rows, JSON))
        if self._contract is Contract.EVOLVE and table.schema != self.schema:
            grown = self._grown(table.schema)
            table = read_records(values, grown, "ignore")
            # Not before: with a column that nothing can be read into, all that follows would fail.
            self.schema = grown
        return table

    def _grown(self, found: pa.Schema) -> pa.Schema:
        """The schema with the fields that are new, of a type that what follows is likely to fit."""
        schema = self.schema
        new = [each for each in found if each.name not in self.schema.names and each.type != pa.null()]
        for each in new:
            if (fault := column_fault(each.name)) is not None:
                raise ValueError(fault)
        for each in new:
            # A text that looks like a time may be followed by one that does not.
            kind = pa.string() if pa.types.is_timestamp(each.type) else each.type
            schema = schema.append(pa.field(each.name, JSON if pa.types.is_nested(kind) else kind))
        return schema

    def _widen(self, values: Sequence[bytes | None], bad: Sequence[Undecodable]) -> bool:
        """Widen the columns that did not fit; whether there were any."""
        before = self.schema
        if self._contract is Contract.EVOLVE:
            for each in bad:
                value = values[each.position] or b""
                if TOO_NARROW in each.reason:
                    self._widen_for(value)
                elif MIXED in each.reason or TWICE_WITHIN.search(each.reason):
                    self._take_nested(value)
        return bool(self.schema != before)

    def _take_nested(self, value: bytes) -> None:
        """Take new fields with nested values as JSON, whatever is in them; Arrow wants one type in a list."""
        with suppress(orjson.JSONDecodeError):
            document = orjson.loads(value)
            for name, found in document.items() if isinstance(document, dict) else ():
                if isinstance(found, list | dict) and name not in self.schema.names and column_fault(name) is None:
                    self.schema = self.schema.append(pa.field(name, JSON))

    def _widen_for(self, value: bytes) -> None:
        """Give each integer column the narrowest type that holds its number of *value*."""
        for index, column in enumerate(self.schema):
            kind = column.type if pa.types.is_integer(column.type) else None
            while kind is not None and not _fits(value, column.with_type(kind)):
                kind = widened(kind)
            if kind is not None:
                self.schema = self.schema.set(index, column.with_type(kind))

    def _united(self, tables: Sequence[pa.Table]) -> pa.Table:
        if not tables:
            extra = [QUARANTINE] if self._contract is Contract.QUARANTINE else []
            return pa.schema([*self.schema, *extra]).empty_table()
        return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")

    def _reason(self, error: Exception, value: bytes) -> str:
        text = str(error)
        if "unexpected field" in text:
            text = _undeclared(value, self.schema)
        # Arrow counts rows and names our wrapper; neither means anything to who reads the reason.
        text = ROW_NUMBER.sub("", text.replace("(/record/", "(/"))
        # The reason quotes the record, and SQL text cannot hold the character NUL.
        return text.replace("\0", "\\0")[:REASON_CHARACTERS]


def _fits(value: bytes, column: pa.Field) -> bool:
    try:
        read_records([value], pa.schema([column]), "ignore")
    except ValueError:
        return False
    return True


def _undeclared(value: bytes, schema: pa.Schema) -> str:
    try:
        unknown = sorted(orjson.loads(value).keys() - set(schema.names))
    except orjson.JSONDecodeError as error:  # Arrow stops at the field: what follows may be no JSON
        return str(error)
    return f"the record has fields that the flow does not declare: {', '.join(unknown)}"


def _unknown_fields(values: Sequence[bytes], schema: pa.Schema) -> pa.Array:
    return as_json([as_object(fields) if fields else None for fields in other_fields(values, schema)])
