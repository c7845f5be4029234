"""What stands in JSON columns, as text: nothing becomes an object of Python, which would round numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec
import orjson
import pyarrow as pa

from workbench.loading import JSON

DEEPEST = 254  # levels in a column; Python's reader of JSON, which drivers use, calls itself for each
LONGEST_NUMBER = 4300  # digits that Python makes an integer of (sys.int_info.default_max_str_digits)
LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (LONGEST_NUMBER + 1))
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
ESCAPES = (b"\\u", b"\\/")  # with which a name may be written otherwise
ODD = re.compile(r'["\\\x00-\x1f]')

_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def is_plain(name: str) -> bool:
    """Whether msgspec can have a field of that name, and JSON can have it as it is."""
    return ODD.search(name) is None


def read_texts(values: Sequence[bytes], names: Sequence[str]) -> list[pa.Array]:
    """What stands in these fields of each record, as JSON columns.

    Raises:
        ValueError: when it cannot be read back, is not UTF-8, or there twice; ends in the number of the row.
    """
    raws = _read_raws(values, names)
    return [_read_column(values, name, found) for name, found in zip(names, raws, strict=True)]


def other_fields(values: Sequence[bytes], schema: pa.Schema) -> list[dict[str, msgspec.Raw]]:
    """The fields of each record that *schema* has not, with the text of what is in them."""
    known = set(schema.names)
    return [{name: raw for name, raw in _read_fields(value).items() if name not in known} for value in values]


def as_object(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """The fields as the JSON object of just these."""
    return b"{%b}" % b",".join(orjson.dumps(name) + b":" + compact(raw) for name, raw in fields.items())


def compact(raw: msgspec.Raw) -> bytes:
    """The text without the spaces between its tokens, which stay as they are: each digit of a number, for one.

    Raises:
        ValueError: when it could not be read back.
    """
    text = bytes(raw)
    if text.count(b"[") + text.count(b"{") > DEEPEST and depth_of(STRING.sub(b"", text)) > DEEPEST:
        raise ValueError(f"the value is nested more than {DEEPEST} levels deep")
    # Digits within a text are no number.
    if len(text) > LONGEST_NUMBER and LONG_NUMBER.search(text) and LONG_NUMBER.search(STRING.sub(b"", text)):
        raise ValueError(f"the value has a number of more than {LONGEST_NUMBER} digits")
    return msgspec.json.format(text, indent=-1)


def depth_of(value: bytes) -> int:
    """Levels of nesting; brackets inside strings count, too, unless they are balanced there."""
    depth = deepest = 0
    for byte in value:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def as_json(texts: Sequence[bytes | None]) -> pa.Array:
    """A JSON column of compact texts; null for None and for `null`.

    Raises:
        ValueError: when one is not UTF-8.
    """
    storage = pa.array([None if text == b"null" else text for text in texts], pa.string())
    return pa.ExtensionArray.from_storage(JSON, storage)


def _read_raws(values: Sequence[bytes], names: Sequence[str]) -> list[list[msgspec.Raw | None]]:
    if all(map(is_plain, names)):
        records = list(map(_texts_reader(tuple(names)), values))
        return [[getattr(record, f"f{number}") for record in records] for number in range(len(names))]
    fields = [_read_fields(value) for value in values]
    return [[each.get(name) for each in fields] for name in names]


@lru_cache(maxsize=16)
def _texts_reader(names: tuple[str, ...]) -> Callable[[bytes], Any]:
    """Reads just these fields, which takes a third of the time that all take."""
    fields = [(f"f{number}", msgspec.Raw, None) for number in range(len(names))]
    renamed = {f"f{number}": name for number, name in enumerate(names)}
    return msgspec.json.Decoder(msgspec.defstruct("Texts", fields, rename=renamed, gc=False)).decode


def _read_column(values: Sequence[bytes], name: str, raws: Sequence[msgspec.Raw | None]) -> pa.Array:
    _check_once(values, name, raws)
    try:
        return as_json([None if raw is None else compact(raw) for raw in raws])
    except ValueError:
        for row, raw in enumerate(raws):
            _check_text(name, raw, row)
        raise


def _check_text(name: str, raw: msgspec.Raw | None, row: int) -> None:
    """Raise, with the names of column and row, for what cannot be taken."""
    if raw is None:
        return
    try:
        bytes(raw).decode()
        compact(raw)
    except UnicodeDecodeError:
        raise ValueError(f"column {name} holds text that is not UTF-8 in row {row}") from None
    except ValueError as error:
        raise ValueError(f"column {name}: {error} in row {row}") from None


def _check_once(values: Sequence[bytes], name: str, raws: Sequence[msgspec.Raw | None]) -> None:
    """Raise for a record that has the field twice: Arrow does not look at it, and msgspec takes the last."""
    key = orjson.dumps(name)
    for row, (value, raw) in enumerate(zip(values, raws, strict=True)):
        if raw is not None and _may_be_there_twice(value, key):
            _check_names(value, name, row)


def _may_be_there_twice(value: bytes, key: bytes) -> bool:
    # Written with escapes, a name is not found by its bytes.
    if any(each in value for each in ESCAPES):
        return True
    count = value.count(key)
    # It may be the value of a field, or stand within one.
    return count > 1 and count - sum(bytes(raw).count(key) for raw in _read_fields(value).values()) > 1


def _check_names(value: bytes, name: str, row: int) -> None:
    # What is nested deeper than Python can go is nothing that is taken.
    with suppress(RecursionError):
        text = value.decode("utf-8", "replace")
        pairs = json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str, strict=False)
        if [found for found, _ in pairs].count(name) > 1:
            raise ValueError(f"column {name} was specified twice in row {row}")
