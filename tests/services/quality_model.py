"""Expectations by pandas and Python alone, and rows on which engines could differ."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random
import re
from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from workbench.transformation.quality.expectations import (
    Expectation,
    ForeignKey,
    Freshness,
    Matches,
    NotNull,
    Range,
    RowCount,
    Unique,
    Values,
)
from workbench.transformation.quality.patterns import portable

NOW = dt.datetime(2026, 3, 2, 12, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
ROW = {"id": 1, "n": 1, "x": 1.0, "t": "a", "at": NOW, "on": NOW.date()}
INTEGERS = (None, -2, -1, 0, 1, 2, 32767)
DOUBLES = (None, math.nan, -1.0, -0.0, 0.0, 1.5, 1.6, math.inf, -math.inf)
# Characters that classes, dots and anchors of one engine take and those of another do not.
WORDS = (None, "", "a", "A", "ab", "a\n", "\n", "a\r", "a\u2028", "ä", "a1", "٣", "_", " ", "\u00a0", "a-b", "]", "a\\")
TIMES = (None, NOW, NOW - DAY, NOW - DAY * 1.5, NOW + DAY, NOW - dt.timedelta(microseconds=1))
DATES = (None, NOW.date(), NOW.date() - DAY)

EXPECTATIONS: tuple[Expectation, ...] = (
    NotNull(column="n"),
    NotNull(column="x"),
    NotNull(column="t"),
    Unique(columns=("n",)),
    Unique(columns=("x", "t")),
    Range(column="n", min=0, max=100_000),
    Range(column="n", max=1.5, name="a fraction"),
    Range(column="x", min=-1, max=1.5, tolerance=0.5),
    Range(column="at", min=NOW - DAY, max=NOW),
    Range(column="on", min=NOW.date(), name="a date"),
    Values(column="t", values=("a", "ä", "", "a\\")),
    Values(column="n", values=(0, 1.0)),
    Values(column="at", values=(NOW,)),
    Matches(column="t", pattern=r"\w+"),
    Matches(column="t", pattern=r"^a.?$", name="a dot"),
    Matches(column="t", pattern=r"[^a]*|a-b|\]|[\d\s]", name="classes"),
    Matches(column="t", pattern=r"(a|ab|)", name="an empty branch"),
    Matches(column="t", pattern=r".*\\|a{1,2}?", name="a backslash"),
    Freshness(column="at", max_age_seconds=3600),
    RowCount(min=3),
)


def many_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of all values above, in any combination."""
    chosen = random.Random(seed)
    every = itertools.product(INTEGERS, DOUBLES, WORDS, TIMES, DATES)
    return [
        {"id": number, "n": n, "x": x, "t": t, "at": at, "on": on}
        for number, (n, x, t, at, on) in enumerate(chosen.sample(list(every), count))
    ]


def is_missing(value: object) -> bool:
    """Null or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def expected(
    expectation: Expectation, rows: Sequence[dict[str, Any]], keys: Collection[int] = ()
) -> tuple[int, int, float | None]:
    """Checked, failed and observed; *keys* are what a foreign key leads to."""
    if isinstance(expectation, RowCount):
        return len(rows), 0, float(len(rows))
    values = [row[expectation.about[0]] for row in rows if not is_missing(row[expectation.about[0]])]
    if isinstance(expectation, Freshness):
        return len(values), 0, (NOW - max(values)).total_seconds() if values else None
    if isinstance(expectation, NotNull):
        return _share(len(rows), len(rows) - len(values))
    if isinstance(expectation, Unique):
        frame = pd.DataFrame(rows, columns=list(ROW), dtype=object)[list(expectation.columns)]
        frame = frame[~frame.map(is_missing).any(axis=1)]
        return _share(len(frame), int(frame.duplicated().sum()))
    return _share(len(values), sum(fails(expectation, value, keys) for value in values))


def fails(expectation: Expectation, value: Any, keys: Collection[int] = ()) -> bool:
    """Whether one value, which is there, breaks what is expected."""
    if isinstance(expectation, Range):
        too_low = expectation.min is not None and value < expectation.min
        return too_low or (expectation.max is not None and value > expectation.max)
    if isinstance(expectation, Values):
        return value not in list(expectation.values)
    if isinstance(expectation, Matches):
        return not re.fullmatch(f"(?s:{portable(expectation.pattern)})", value)
    assert isinstance(expectation, ForeignKey)
    return value not in keys


def _share(checked: int, failed: int) -> tuple[int, int, float]:
    return checked, failed, failed / checked if checked else 0.0
