"""The functions of PromQL that quantities use, number for number as Prometheus computes them.

Source: prometheus/prometheus, promql/functions.go (`extrapolatedRate`) and promql/quantile.go (`bucketQuantile`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from workbench.observability.alerts.samples import Points, Semantics


def increase(points: Points, at: int, length: int, semantics: Semantics) -> float | None:
    """By how much a counter has grown in a range, as far as its samples tell; None when there are fewer than two.

    Args:
        points: its samples in the range.
        at: where the range ends, in milliseconds.
        length: of the range, in milliseconds.
        semantics: of which major.
    """
    if len(points) < 2:
        return None
    (first_at, first), (last_at, last) = points[0], points[-1]
    grown = last - first
    for (_, before), (_, after) in pairwise(points):
        if after < before:  # it began anew at zero
            grown += before
    to_start, to_end = (first_at - (at - length)) / 1000, (at - last_at) / 1000
    sampled = (last_at - first_at) / 1000
    between = sampled / (len(points) - 1)
    to_zero = sampled * (first / grown) if grown > 0 and first >= 0 else math.inf
    far = between * 1.1
    if semantics.caps_first:
        to_start = min(to_start, to_zero)
        to_start = to_start if to_start < far else between / 2
    else:
        to_start = min(to_start if to_start < far else between / 2, to_zero)
    to_end = to_end if to_end < far else between / 2
    return grown * ((sampled + to_start + to_end) / sampled)


def bucket_quantile(quantile: float, counts: Mapping[float, float]) -> float:
    """The quantile of a histogram, linear within a bucket; NaN when nothing was observed.

    Args:
        quantile: from 0 to 1.
        counts: of observations up to each bound, infinity among them.
    """
    bounds = sorted(counts)
    if len(bounds) < 2 or bounds[-1] != math.inf:
        return math.nan
    values, highest = [], -math.inf
    for bound in bounds:
        highest = max(highest, counts[bound])  # counts that were read at different moments may fall
        values.append(highest)
    if values[-1] == 0 or math.isnan(values[-1]):
        return math.nan
    rank = quantile * values[-1]
    index = next((number for number, count in enumerate(values[:-1]) if count >= rank), len(values) - 1)
    if index == len(values) - 1:
        return bounds[-2]
    if index == 0 and bounds[0] <= 0:
        return bounds[0]
    start, below = (bounds[index - 1], values[index - 1]) if index else (0.0, 0.0)
    return start + (bounds[index] - start) * ((rank - below) / (values[index] - below))


def divide(left: float, right: float) -> float:
    """As IEEE 754 has it, where Python raises."""
    if right:
        return left / right
    if not left or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def aggregate(name: str, values: list[float]) -> float:
    """The sum, or the least or greatest of those that are numbers.

    Args:
        name: sum, min or max.
        values: at least one.
    """
    if name == "sum":
        return sum(values)
    numbers = [each for each in values if not math.isnan(each)]
    if not numbers:
        return math.nan
    return min(numbers) if name == "min" else max(numbers)
