"""What many measured times have in common."""

from __future__ import annotations

import statistics
from typing import Any


def in_milliseconds(seconds: list[float]) -> dict[str, Any]:
    """The middle and the end of what was measured."""
    ordered = sorted(seconds)
    p95, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.95, 0.99))
    named = {"p50": statistics.median(ordered), "p95": p95, "p99": p99, "most": ordered[-1]}
    return {"times": len(ordered), **{name: round(each * 1000, 1) for name, each in named.items()}}
