"""What pandas has for a value that is missing, told without importing pandas."""

from __future__ import annotations

NAMES = frozenset({"NaTType", "NAType"})


def is_pandas_null(value: object) -> bool:
    """Whether it is NaT or NA: a missing time, or a missing value of pandas' own types. NaN is a number."""
    return type(value).__name__ in NAMES
