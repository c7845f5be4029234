"""Samples of series as Prometheus keeps them: times in milliseconds, and marks where a series ends."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]  #: sorted by name
Vector = dict[Labels, float]
Points = list[tuple[int, float]]

LOOKBACK_MS = 300_000  #: how old the last sample of a series may be to be its value now


@dataclass(frozen=True)
class Semantics:
    """What differs between the majors of Prometheus.

    Args:
        is_left_open: whether a sample as old as the range is long is outside of it (3.0).
        caps_first: whether a counter's zero bounds the extrapolation before the gap to the range does (2).
    """

    is_left_open: bool
    caps_first: bool


PROMETHEUS_3 = Semantics(is_left_open=True, caps_first=False)


@dataclass(frozen=True)
class Match:
    """A label that has one of some values."""

    label: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f'{self.label}="{self.values[0]}"'
        return f'{self.label}=~"{"|".join(re.escape(each) for each in self.values)}"'.replace("\\", "\\\\")


@dataclass
class _Series:
    times: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)  #: None is a mark that the series has ended


class Samples:
    """Samples of the last hours, in memory."""

    def __init__(self) -> None:
        self._metrics: dict[str, dict[Labels, _Series]] = {}

    def add(self, metric: str, labels: Labels, at: int, value: float | None) -> None:
        """Add a sample; one that is not newer than the last of its series is left out.

        Args:
            metric: name.
            labels: without those that are empty.
            at: milliseconds since 1970.
            value: None says that the series has ended.
        """
        series = self._metrics.setdefault(metric, {}).setdefault(labels, _Series())
        if series.times and at <= series.times[-1]:
            return
        series.times.append(at)
        series.values.append(value)

    def instant(self, metric: str, matches: Iterable[Match], at: int, semantics: Semantics) -> Vector:
        """The value of each series at an instant: its last one, unless it is older than five minutes or has ended."""
        found: Vector = {}
        for labels, series in self._select(metric, matches):
            index = bisect_right(series.times, at) - 1
            if index < 0 or (value := series.values[index]) is None:
                continue
            age = at - series.times[index]
            if age < LOOKBACK_MS or (age == LOOKBACK_MS and not semantics.is_left_open):
                found[labels] = value
        return found

    def ranges(
        self, metric: str, matches: Iterable[Match], at: int, length: int, semantics: Semantics
    ) -> Mapping[Labels, Points]:
        """The samples of each series in the *length* milliseconds before an instant."""
        bisect = bisect_right if semantics.is_left_open else bisect_left
        found = {}
        for labels, series in self._select(metric, matches):
            start, end = bisect(series.times, at - length), bisect_right(series.times, at)
            pairs = zip(series.times[start:end], series.values[start:end], strict=True)
            points = [(time, value) for time, value in pairs if value is not None]
            if points:
                found[labels] = points
        return found

    def forget(self, before: int) -> None:
        """Let samples go that are older than *before*, and series of which none is left."""
        for metric, all_series in list(self._metrics.items()):
            for labels, series in list(all_series.items()):
                old = bisect_left(series.times, before)
                del series.times[:old], series.values[:old]
                if not series.times:
                    del all_series[labels]
            if not all_series:
                del self._metrics[metric]

    def move(self, milliseconds: int) -> None:
        """The clock was set: move every sample by as much."""
        for all_series in self._metrics.values():
            for series in all_series.values():
                series.times = [each + milliseconds for each in series.times]

    def _select(self, metric: str, matches: Iterable[Match]) -> Iterable[tuple[Labels, _Series]]:
        wanted = tuple(matches)
        for labels, series in self._metrics.get(metric, {}).items():
            have = dict(labels)
            if all(have.get(each.label, "") in each.values for each in wanted):
                yield labels, series


def labels_of(values: Mapping[str, str]) -> Labels:
    """Labels as samples have them."""
    return tuple(sorted((name, value) for name, value in values.items() if value))
