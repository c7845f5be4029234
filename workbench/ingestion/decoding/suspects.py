"""Which records of a batch are likely not to fit: a quick look at each, in place of a search by parsing again.

Arrow parses a batch in one go and fails as a whole. msgspec checks one record in a quarter of a
microsecond. It only points out; whether a record fits is Arrow's word, so that the answer never
depends on the records beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
import orjson
import pyarrow as pa

from workbench.ingestion.decoding.json_texts import is_plain


def find_suspects(values: Sequence[bytes], schema: pa.Schema, *, closed: bool) -> list[int]:
    """Indices of the values that msgspec cannot read as a record of *schema*.

    Args:
        values: the records.
        schema: their columns.
        closed: whether a field that the schema does not name makes a record suspect.
    """
    decode: Callable[[bytes], object] = msgspec.json.Decoder(_record_type(schema, closed=closed)).decode
    suspects = []
    for index, value in enumerate(values):
        try:
            decode(value)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            suspects.append(index)
    return suspects


def certain_fault(value: bytes) -> str | None:
    """Why *value* is no JSON document; None when Arrow, which reads a little more than JSON, has to say."""
    if not value.isascii() or b"N" in value or b"I" in value or value.count(b"[") + value.count(b"{") > 1000:
        return None
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError as error:
        # A number of many digits may be read exactly, into a decimal or a JSON column.
        return None if "number is infinity" in str(error) else f"JSON parse error: {error}"
    return None


def _record_type(schema: pa.Schema, *, closed: bool) -> type:
    # Columns may have names that Python has not, so the fields are numbered. Those that msgspec has not either are
    # not looked at.
    columns = [column for column in schema if is_plain(column.name)]
    fields = [(f"f{number}", _field_type(column.type) | None, None) for number, column in enumerate(columns)]
    names = {f"f{number}": column.name for number, column in enumerate(columns)}
    closed = closed and len(columns) == len(schema)
    return msgspec.defstruct("Record", fields, rename=names, forbid_unknown_fields=closed, gc=False)


def _field_type(kind: pa.DataType) -> Any:
    if pa.types.is_integer(kind):
        limit = 2 ** (kind.bit_width - 1)
        return Annotated[int, msgspec.Meta(ge=-limit, le=limit - 1)]
    if pa.types.is_floating(kind):
        return float
    if pa.types.is_timestamp(kind):
        return datetime
    if pa.types.is_string(kind):
        return str
    if pa.types.is_boolean(kind):
        return bool
    return Any
