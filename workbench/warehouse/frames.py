"""Rows of an answer as a pandas DataFrame that holds the very values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd


def exact_frame(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> pd.DataFrame:
    """The rows under these names; whole numbers among which a NULL is are of type `Int64`.

    By itself pandas makes floats of them, which are exact up to 2**53 only. Those beyond 64 bits stay Python's own.
    """
    frame = pd.DataFrame(list(rows), columns=list(names))
    for place, kind in enumerate(frame.dtypes):
        if kind.kind != "f":
            continue
        values = [row[place] for row in rows]
        if None in values and all(value is None or isinstance(value, int) for value in values):
            frame.isetitem(place, _whole(values))
    return frame


def _whole(values: Sequence[int | None]) -> Any:
    try:
        return pd.array(values, dtype="Int64")
    except OverflowError:
        return pd.Series(values, dtype=object)
