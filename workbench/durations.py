"""Durations as people write them in files and options: `30s`, `1h30m`, `2d`, `500ms`.

    duration = [ n "d" ] [ n "h" ] [ n "m" ] [ n "s" ] [ n "ms" ]      at least one, the largest first

A day has 24 hours, seconds may have up to three decimals, and there is no sign. But for the decimals Prometheus reads
the same. What is allowed in its place, such as at most a day, says whoever asks.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}  #: in milliseconds, the largest first
DURATION = re.compile(
    r"(?=[0-9])(?:([0-9]{1,14})d)?(?:([0-9]{1,14})h)?(?:([0-9]{1,14})m)?"
    r"(?:([0-9]{1,14}(?:\.[0-9]{1,3})?)s)?(?:([0-9]{1,14})ms)?"
)
MILLISECOND = timedelta(milliseconds=1)
MOST = timedelta(days=1_000_000)  #: so that its seconds, as a float, still have their milliseconds


def parse_duration(text: object) -> timedelta:
    """The duration that a text says, in whole milliseconds.

    Raises:
        ValueError: when it says none, or more than a million days.
    """
    match = DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no duration; write 30s, 1h30m or 2d")
    milliseconds = int(sum(Decimal(n or 0) * unit for n, unit in zip(match.groups(), UNITS.values(), strict=True)))
    if milliseconds > MOST // MILLISECOND:
        raise ValueError(f"{text!r} is no duration up to {MOST.days} days")
    return milliseconds * MILLISECOND


def duration_text(length: timedelta) -> str:
    """One text for each duration, which `parse_duration` reads again: its seconds, such as `5400s` or `0.5s`.

    Args:
        length: not negative; rounded to milliseconds.
    """
    seconds, milliseconds = divmod(round(length / MILLISECOND), 1000)
    return f"{seconds}.{milliseconds:03}".rstrip("0").rstrip(".") + "s"
