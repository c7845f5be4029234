"""One chunk of JSON records to an Arrow table: all of them, or an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

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
    found = dict(zip(texts, _read_texts(values, texts), strict=True))
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


def _read_texts(values: Sequence[bytes], names: Sequence[str]) -> list[pa.Array]:
    """What stands in these fields, as JSON columns. Nothing becomes an object of Python, which would round numbers."""
    records = list(map(_texts_reader(tuple(names)), values))
    columns = []
    for number in range(len(names)):
        found = [getattr(record, f"f{number}") for record in records]
        columns.append([None if raw is None else compact(raw) for raw in found])
    for name, column in zip(names, columns, strict=True):
        _check_once(values, name, len(column) - column.count(None), columns)
    return list(map(as_json, columns))


@lru_cache(maxsize=16)
def _texts_reader(names: tuple[str, ...]) -> Callable[[bytes], Any]:
    fields = [(f"f{number}", msgspec.Raw, None) for number in range(len(names))]
    renamed = {f"f{number}": name for number, name in enumerate(names)}
    return msgspec.json.Decoder(msgspec.defstruct("Texts", fields, rename=renamed, gc=False)).decode


def _check_once(values: Sequence[bytes], name: str, count: int, columns: Sequence[Sequence[bytes | None]]) -> None:
    """Raise for a record that has the field twice: Arrow does not look at it, and msgspec takes the last."""
    key = orjson.dumps(name)
    more = sum(value.count(key) for value in values) - count
    # It may also stand further within, in what was taken or in what was not.
    if more <= 0 or more <= sum(text.count(key) for column in columns for text in column if text):
        return
    for value in values:
        if value.count(key) > 1 and [found for found, _ in json.loads(value, object_pairs_hook=list)].count(name) > 1:
            raise ValueError(f"column {name} was specified twice")


_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def other_fields(values: Sequence[bytes], schema: pa.Schema) -> list[dict[str, msgspec.Raw]]:
    """The fields of each record that *schema* has not, with the text of what is in them."""
    known = set(schema.names)
    return [{name: raw for name, raw in _read_fields(value).items() if name not in known} for value in values]


def as_object(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """The fields as the JSON object of just these."""
    return b"{%b}" % b",".join(orjson.dumps(name) + b":" + compact(raw) for name, raw in fields.items())


def compact(raw: msgspec.Raw) -> bytes:
    """The text without the spaces between its tokens, which stay as they are: each digit of a number, for one."""
    return msgspec.json.format(bytes(raw), indent=-1)


def as_json(texts: Sequence[bytes | None]) -> pa.Array:
    """A JSON column of compact texts; null for None and for `null`.

    Raises:
        ValueError: when one is not UTF-8.
    """
    storage = pa.array([None if text == b"null" else text for text in texts], pa.string())
    return pa.ExtensionArray.from_storage(JSON, storage)


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
        if value.count(b"[") + value.count(b"{") >= DEEPEST and _depth(value) > DEEPEST:
            raise ValueError(f"the value is nested more than {DEEPEST} levels deep")


def _depth(value: bytes) -> int:
    """Levels of nesting; brackets inside strings count, too, unless they are balanced there."""
    depth = deepest = 0
    for byte in value:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


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


def _check_text(rows: pa.Table) -> None:
    """Raise for text that no SQL database takes: invalid UTF-8 and the character NUL."""
    for field in rows.schema:
        if pa.types.is_string(field.type):
            column = rows[field.name]
            column.validate(full=True)
            if pc.any(pc.match_substring(column, "\0")).as_py():
                raise ValueError(f"column {field.name} holds the character NUL, which SQL text cannot")
