"""Lengths of time: written as Spark writes them, `10 minutes`, or given as a timedelta."""

from __future__ import annotations

import re
from datetime import timedelta

UNITS = {
    "microsecond": timedelta(microseconds=1),
    "millisecond": timedelta(milliseconds=1),
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
PART = re.compile(r"(\d+)\s*([a-z]+?)s?(?:\s+|$)")

Duration = timedelta | str


def parse_duration(value: Duration) -> timedelta:
    """`10 minutes` or `1 hour 30 minutes` as a timedelta; a timedelta as it is. A day has 24 hours.

    Raises:
        ValueError: for months and years, which have no fixed length, and for what is no length.
    """
    if isinstance(value, timedelta):
        length = value
    else:
        text = value.strip().lower()
        parts = PART.findall(text)
        if not parts or PART.sub("", text) or any(unit not in UNITS for _, unit in parts):
            raise ValueError(f"{value!r} is no length of time such as '10 minutes' or '1 hour 30 minutes'")
        try:
            length = sum((int(count) * UNITS[unit] for count, unit in parts), timedelta())
        except OverflowError:
            raise ValueError(f"{value!r} is too long") from None
    if length < timedelta():
        raise ValueError(f"{value!r} is negative")
    return length


def microseconds(length: timedelta) -> int:
    """*length* in whole microseconds, exactly; `total_seconds` would round."""
    return length // timedelta(microseconds=1)


def as_interval(length: timedelta) -> str:
    """*length* as Spark's windows and watermarks read it."""
    return f"{microseconds(length)} microseconds"
