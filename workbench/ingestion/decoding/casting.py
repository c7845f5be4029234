"""Casts of columns that name each value that does not fit, and what a SQL table cannot hold."""

from __future__ import annotations

import base64
import math
import re
from datetime import UTC, datetime

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from workbench.loading import JSON

# A backslash may itself be escaped: only an odd one begins the escape of NUL.
ESCAPED_NUL = r"(?:^|[^\\])(?:\\\\)*\\u0000"
NO_NUMBER = re.compile(r"\b(?:nan|inf)\b")
FIRST_YEAR = datetime(1, 1, 1, tzinfo=UTC)
LAST_YEAR = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
VALUE_CHARACTERS = 100


def cast_column(name: str, array: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """The column with another type, and by number of the row why a value does not fit.

    Numbers become other numbers, and times dates, if that changes nothing; anything becomes text. Text
    becomes a time, a date or a decimal; it never becomes another number or a boolean.
    """
    if array.type == wanted:
        return array, {}
    if wanted == JSON:
        return _as_json(name, array)
    if not _may_cast(array.type, wanted):
        rows = pc.indices_nonzero(pc.is_valid(array)).to_pylist()
        return pa.nulls(len(array), wanted), {row: _misfit(name, array[row], wanted) for row in rows}
    try:
        return _cast(array, wanted), {}
    except pa.ArrowException:
        misfits = _find_misfits(array, wanted, 0)
    mask = pa.array([row in misfits for row in range(len(array))])
    emptied = pc.if_else(mask, pa.scalar(None, array.type), array)
    return _cast(emptied, wanted), {row: _misfit(name, array[row], wanted) for row in sorted(misfits)}


def find_unstorable(name: str, array: pa.Array) -> dict[int, str]:
    """By number of the row, why SQL cannot hold the value: the character NUL, years beyond 9999."""
    kind = array.type
    if pa.types.is_string(kind):
        found = pc.match_substring(array, "\0")
        reason = f"column {name} holds the character NUL, which SQL text cannot"
    elif kind == JSON:
        found = pc.match_substring_regex(array.storage, ESCAPED_NUL)
        reason = f"column {name} holds the character NUL, which SQL text cannot"
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        low, high = (pa.scalar(bound, _bound_type(kind)).cast(kind) for bound in (FIRST_YEAR, LAST_YEAR))
        found = pc.or_(pc.less(array, low), pc.greater(array, high))
        reason = f"column {name} holds a time outside of the years 1 to 9999"
    else:
        return {}
    if not pc.any(found).as_py():
        return {}
    return dict.fromkeys(pc.indices_nonzero(found).to_pylist(), reason)


def as_json_text(value: object) -> str:
    """What is nested, as JSON: times in RFC 3339, decimals as text, bytes in base64, NaN and infinity as text."""
    text = orjson.dumps(value, default=_plain, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z).decode()
    # What is no number has become null; to look at the text of a value is quicker than to walk through it.
    if "null" in text and NO_NUMBER.search(repr(value)) and (told := _finite(value)) != value:
        return as_json_text(told)
    return text


def _finite(value: object) -> object:
    """The value with the words of Protobuf's JSON for what is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _plain(value: object) -> object:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _as_json(name: str, array: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    texts: list[str | None] = []
    faults: dict[int, str] = {}
    for row, value in enumerate(array):
        try:
            texts.append(as_json_text(value.as_py()) if value.is_valid else None)
        except (ArithmeticError, ValueError, TypeError):  # a time that Python has no date of
            texts.append(None)
            faults[row] = _misfit(name, value, JSON)
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.string())), faults


def _bound_type(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("us", tz=kind.tz) if pa.types.is_timestamp(kind) else pa.date32()


def _may_cast(given: pa.DataType, wanted: pa.DataType) -> bool:
    types = pa.types
    if types.is_null(given):
        return True
    if types.is_string(wanted):
        return not types.is_binary(given)
    if types.is_string(given):
        return bool(types.is_timestamp(wanted) or types.is_date(wanted) or types.is_decimal(wanted))
    if _is_number(given):
        return _is_number(wanted)
    return bool(types.is_temporal(given) and types.is_temporal(wanted))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(array.type) and pa.types.is_timestamp(wanted) and array.type.unit == "ns":
        # SQL counts microseconds: what is finer is cut off.
        return array.cast(wanted, safe=False)
    if pa.types.is_string(array.type) and pa.types.is_timestamp(wanted):
        return _parse_times(array, wanted)
    if pa.types.is_integer(array.type) and pa.types.is_decimal(wanted):
        # Arrow refuses a decimal that could not hold every integer, whatever the values are.
        return array.cast(pa.decimal256(76, wanted.scale)).cast(wanted)
    if pa.types.is_floating(array.type) and pa.types.is_decimal(wanted):
        # By the shortest text that is this number: Arrow itself would round to the scale.
        return array.cast(pa.string()).cast(wanted)
    if pa.types.is_decimal(array.type) and pa.types.is_floating(wanted):
        cast = array.cast(pa.string()).cast(wanted)
        return _unchanged(array, cast, cast.cast(pa.string()))
    cast = array.cast(wanted)
    # Arrow would leave out the time of the day.
    return _unchanged(array, cast, cast) if pa.types.is_date(wanted) and pa.types.is_timestamp(array.type) else cast


def _unchanged(array: pa.Array, cast: pa.Array, back: pa.Array) -> pa.Array:
    if not back.cast(array.type).equals(array):
        raise pa.ArrowInvalid("a value would be another")
    return cast


def _parse_times(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """RFC 3339 text to UTC; without an offset it is UTC. Arrow parses one of the two kinds at a time."""
    zoned = pc.match_substring_regex(array, r"(?:[Zz]|[+-]\d\d:?\d\d)$")
    with_zone = pc.if_else(zoned, array, pa.scalar(None, pa.string())).cast(wanted)
    without_zone = pc.if_else(zoned, pa.scalar(None, pa.string()), array).cast(pa.timestamp(wanted.unit))
    return pc.coalesce(with_zone, without_zone.cast(wanted))


def _find_misfits(array: pa.Array, wanted: pa.DataType, start: int) -> set[int]:
    try:
        _cast(array, wanted)
    except pa.ArrowException:
        if len(array) == 1:
            return {start}
        middle = len(array) // 2
        return _find_misfits(array[:middle], wanted, start) | _find_misfits(array[middle:], wanted, start + middle)
    return set()


def _misfit(name: str, value: pa.Scalar, wanted: pa.DataType) -> str:
    try:
        shown = repr(value.as_py())[:VALUE_CHARACTERS]
    except (ArithmeticError, ValueError):  # a time that Python has no date of
        shown = str(value.value)
    return f"column {name}: {shown} ({value.type}) does not fit into {wanted}"
