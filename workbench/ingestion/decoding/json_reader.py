"""One chunk of JSON records to an Arrow table: all of them, or an error."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from workbench.ingestion.decoding.json_texts import as_object, depth_of, other_fields, read_texts
from workbench.loading import JSON

# Arrow's reader calls itself for each level of what it infers; tens of thousands overflow its stack.
DEEPEST = 100
FIRST_TIME, LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999  # microseconds since 1970
NEWLINE, OPENING, CLOSING = b"\n{}"


def read_records(values: Sequence[bytes], schema: pa.Schema, unexpected: str, *, quick: bool = False) -> pa.Table:
    """Parse one JSON object from each value.

    Args:
        values: the records.
        schema: the columns to take; one of type `JSON` holds the text of whatever is there.
        unexpected: what becomes of other fields: `ignore`, `error` or `infer` (pyarrow's words).
        quick: give up when a value does not begin and end with a brace, which most likely is broken.

    Raises:
        ValueError: when a value does not fit; `pyarrow.ArrowInvalid` is one.
    """
    joined = b"\n".join(values)
    if unexpected == "infer":
        _check_depth(values, joined)
    texts = [column.name for column in schema if column.type == JSON]
    plain = pa.schema([column for column in schema if column.type != JSON])
    # A JSON column is a field that Arrow is not told of: what is in it may have any shape.
    behaviour = "ignore" if texts else unexpected
    # Each line begins with a brace and ends with one: no value can then be half a document, or
    # hold two that another makes up for; as many rows as values means one from each.
    if _is_framed(joined, len(values)):
        table = _read_lines(joined, len(values), plain, behaviour)
    elif quick and joined.count(b"\n") == len(values) - 1:
        raise ValueError("a value does not begin and end with a brace")
    else:
        table = _read_wrapped(values, plain, behaviour)
    _check_times(table)
    _check_decimals(table)
    _check_floats(table, values)
    # What follows costs more than a look for the bytes that it is about.
    if not joined.isascii() or (b"\\" in joined and b"\\u" in joined) or b"\0" in joined:
        _check_text(table)
    return _with_texts(table, values, schema, texts, unexpected) if texts else table


def _is_framed(joined: bytes, count: int) -> bool:
    """Whether there are *count* lines, each from a brace to a brace."""
    characters = np.frombuffer(joined, np.uint8)
    ends = np.flatnonzero(characters == NEWLINE)
    return bool(
        len(ends) == count - 1
        and joined[:1] == b"{"
        and joined[-1:] == b"}"
        and (characters[ends - 1] == CLOSING).all()
        and (characters[ends + 1] == OPENING).all()
    )


def _with_texts(
    table: pa.Table, values: Sequence[bytes], schema: pa.Schema, texts: Sequence[str], unexpected: str
) -> pa.Table:
    """The table with its JSON columns, and with the fields beyond the schema when they are to be inferred."""
    found = dict(zip(texts, read_texts(values, texts), strict=True))
    arrays = [found[field.name] if field.name in found else table[field.name] for field in schema]
    table = pa.Table.from_arrays(arrays, schema=schema)
    if unexpected == "ignore":
        return table
    others = other_fields(values, schema)
    if any(others):
        if unexpected == "error":
            raise ValueError("unexpected field")
        inferred = _read(b"\n".join(map(as_object, others)), pa.schema([]), "infer")
        for name in inferred.column_names:
            table = table.append_column(inferred.schema.field(name), inferred[name])
    return table


def _read(joined: bytes, schema: pa.Schema, unexpected: str) -> pa.Table:
    return pj.read_json(
        pa.BufferReader(joined),
        read_options=pj.ReadOptions(block_size=len(joined) + 1, use_threads=False),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
    )


def _read_lines(joined: bytes, count: int, schema: pa.Schema, unexpected: str) -> pa.Table:
    if not schema.names:
        return _read_wrapped(joined.split(b"\n"), schema, unexpected)
    table = _read(joined, schema, unexpected)
    if table.num_rows != count:
        raise ValueError("the value is not one JSON document")
    return table


def _read_wrapped(values: Sequence[bytes], schema: pa.Schema, unexpected: str) -> pa.Table:
    """Wrap each value with its number: two documents in one value break the wrapper or the numbering."""
    pairs = ((b'{"record":', value, b',"position":%d}\n' % number) for number, value in enumerate(values))
    wrapper = pa.schema([("record", pa.struct(list(schema))), ("position", pa.int64())])
    table = _read(b"".join(chain.from_iterable(pairs)), wrapper, unexpected)
    if table.num_rows != len(values) or not table["position"].combine_chunks().equals(
        pa.array(range(len(values)), pa.int64())
    ):
        raise ValueError("the value is not one JSON document")
    records = table["record"].combine_chunks()
    if records.null_count:
        raise ValueError("the value is null, not an object")
    return pa.Table.from_arrays(records.flatten(), schema=pa.schema(list(records.type)))


def _check_depth(values: Sequence[bytes], joined: bytes) -> None:
    if joined.count(b"[") + joined.count(b"{") - len(values) < DEEPEST:
        return  # all brackets together are fewer than would be too deep
    for value in values:
        if value.count(b"[") + value.count(b"{") >= DEEPEST and depth_of(value) > DEEPEST:
            raise ValueError(f"the value is nested more than {DEEPEST} levels deep")


def _check_times(rows: pa.Table) -> None:
    """Raise for times outside the years 1 to 9999, which Python and most databases cannot hold."""
    for field in rows.schema:
        if pa.types.is_timestamp(field.type):
            ends = pc.min_max(rows[field.name].cast(pa.int64()))
            if ends["min"].is_valid and not (ends["min"].as_py() >= FIRST_TIME and ends["max"].as_py() <= LAST_TIME):
                raise ValueError(f"column {field.name} holds a time outside the years 1 to 9999")


def _check_decimals(rows: pa.Table) -> None:
    """Raise for decimals with more digits than their column has: Arrow counts them before it adds those of the scale."""
    for field in rows.schema:
        if pa.types.is_decimal(field.type):
            try:
                rows[field.name].validate(full=True)
            except pa.ArrowInvalid:
                raise ValueError(f"column {field.name} holds a number that does not fit into {field.type}") from None


def _check_floats(rows: pa.Table, values: Sequence[bytes]) -> None:
    """Raise for a number that a double has no room for, which Arrow makes infinite when it is written in digits."""
    for field in rows.schema:
        if pa.types.is_floating(field.type) and pc.any(infinite := pc.is_inf(rows[field.name])).as_py():
            for row in map(int, np.flatnonzero(infinite.to_numpy())):
                if b"Inf" not in values[row]:
                    raise ValueError(f"column {field.name} holds a number that is too large for it in row {row}")


def _check_text(rows: pa.Table) -> None:
    """Raise for text that no SQL database takes: invalid UTF-8 and the character NUL."""
    for field in rows.schema:
        if pa.types.is_string(field.type):
            column = rows[field.name]
            column.validate(full=True)
            if pc.any(pc.match_substring(column, "\0")).as_py():
                raise ValueError(f"column {field.name} holds the character NUL, which SQL text cannot")
