"""The part of PromQL that quantities are made of: each expression writes itself and evaluates itself.

>>> Sum(Rate("workbench_ingestion_rows_total", 300), by=("table",)).promql()
'sum by (table) (rate(workbench_ingestion_rows_total[300s]))'
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from workbench.observability.alerts.functions import aggregate, bucket_quantile, divide, increase
from workbench.observability.alerts.samples import PROMETHEUS_3, Labels, Match, Samples, Semantics, Vector

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": divide,
}  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """Of what an expression is evaluated, and when."""

    samples: Samples
    at: int  #: milliseconds since 1970
    semantics: Semantics = PROMETHEUS_3
    _known: dict[Expression, Vector] = field(default_factory=dict, init=False, repr=False, compare=False)

    def value_of(self, expression: Expression) -> Vector:
        """What an expression is now; evaluated once, however many alerts are about it."""
        if expression not in self._known:
            self._known[expression] = expression.evaluate(self)
        return self._known[expression]


class Expression(Protocol):
    """Gives a value for each set of labels."""

    def promql(self) -> str:
        """As Prometheus reads it."""

    def evaluate(self, moment: Moment) -> Vector:
        """As Prometheus evaluates it."""

    def metrics(self) -> frozenset[str]:
        """The names of the metrics that it reads."""


@dataclass(frozen=True)
class Value:
    """The value of each series of a metric."""

    metric: str
    matches: tuple[Match, ...] = ()

    def promql(self) -> str:
        """The name, and in braces the labels."""
        return self.metric + (f"{{{','.join(map(str, self.matches))}}}" if self.matches else "")

    def evaluate(self, moment: Moment) -> Vector:
        """The last value of each."""
        return moment.samples.instant(self.metric, self.matches, moment.at, moment.semantics)

    def metrics(self) -> frozenset[str]:
        """That one."""
        return frozenset({self.metric})


@dataclass(frozen=True)
class Increase:
    """By how much each counter has grown."""

    metric: str
    seconds: int
    matches: tuple[Match, ...] = ()

    def promql(self) -> str:
        """With the range in seconds."""
        return f"increase({Value(self.metric, self.matches).promql()}[{self.seconds}s])"

    def evaluate(self, moment: Moment) -> Vector:
        """Of each series with two samples or more."""
        length = self.seconds * 1000
        found = moment.samples.ranges(self.metric, self.matches, moment.at, length, moment.semantics)
        grown = {each: increase(points, moment.at, length, moment.semantics) for each, points in found.items()}
        return {labels: value for labels, value in grown.items() if value is not None}

    def metrics(self) -> frozenset[str]:
        """That one."""
        return frozenset({self.metric})


@dataclass(frozen=True)
class Rate(Increase):
    """The same, a second."""

    def promql(self) -> str:
        """With the range in seconds."""
        return f"rate({Value(self.metric, self.matches).promql()}[{self.seconds}s])"

    def evaluate(self, moment: Moment) -> Vector:
        """Of each series with two samples or more."""
        return {labels: value / self.seconds for labels, value in super().evaluate(moment).items()}


@dataclass(frozen=True)
class Aggregate:
    """One value of all that have the same labels of *by*."""

    name: str  #: sum, min or max
    of: Expression
    by: tuple[str, ...] = ()

    def promql(self) -> str:
        """With its labels."""
        by = f" by ({', '.join(self.by)})" if self.by else ""
        return f"{self.name}{by} ({self.of.promql()})"

    def evaluate(self, moment: Moment) -> Vector:
        """Of each group that has a member."""
        groups: dict[Labels, list[float]] = {}
        for labels, value in self.of.evaluate(moment).items():
            groups.setdefault(_only(labels, self.by), []).append(value)
        return {labels: aggregate(self.name, values) for labels, values in groups.items()}

    def metrics(self) -> frozenset[str]:
        """Those of what is aggregated."""
        return self.of.metrics()


@dataclass(frozen=True)
class Quantile:
    """A quantile of histograms, from the rates of their buckets."""

    quantile: float
    histogram: str  #: without `_bucket`
    seconds: int
    by: tuple[str, ...] = ()

    def promql(self) -> str:
        """As `histogram_quantile`."""
        return f"histogram_quantile({self.quantile}, {self._rates.promql()})"

    def evaluate(self, moment: Moment) -> Vector:
        """Of each group that has buckets."""
        groups: dict[Labels, dict[float, float]] = {}
        for labels, rate in self._rates.evaluate(moment).items():
            bound = float(dict(labels).get("le", "nan"))
            groups.setdefault(_only(labels, self.by), {})[bound] = rate
        return {labels: bucket_quantile(self.quantile, counts) for labels, counts in groups.items()}

    def metrics(self) -> frozenset[str]:
        """Its buckets."""
        return self._rates.metrics()

    @property
    def _rates(self) -> Aggregate:
        return Aggregate("sum", Rate(f"{self.histogram}_bucket", self.seconds), ("le", *self.by))


@dataclass(frozen=True)
class Arithmetic:
    """Two of the same labels, or one and a number, become one."""

    left: Expression | float
    operation: str
    right: Expression | float

    def promql(self) -> str:
        """In parentheses where it is a part."""
        return f"{_operand(self.left)} {self.operation} {_operand(self.right)}"

    def evaluate(self, moment: Moment) -> Vector:
        """Of the labels that both have."""
        compute = OPERATIONS[self.operation]
        left = self.left if isinstance(self.left, float | int) else self.left.evaluate(moment)
        right = self.right if isinstance(self.right, float | int) else self.right.evaluate(moment)
        if isinstance(right, dict):
            if isinstance(left, dict):
                return {labels: compute(value, right[labels]) for labels, value in left.items() if labels in right}
            return {labels: compute(left, value) for labels, value in right.items()}
        assert isinstance(left, dict), "one of both is no number"
        return {labels: compute(value, right) for labels, value in left.items()}

    def metrics(self) -> frozenset[str]:
        """Those of both."""
        parts = [each.metrics() for each in (self.left, self.right) if not isinstance(each, float | int)]
        return frozenset().union(*parts)


@dataclass(frozen=True)
class Floor:
    """Rounded down."""

    of: Expression

    def promql(self) -> str:
        """As `floor`."""
        return f"floor({self.of.promql()})"

    def evaluate(self, moment: Moment) -> Vector:
        """Each of them."""
        return {
            labels: math.floor(value) if math.isfinite(value) else value
            for labels, value in self.of.evaluate(moment).items()
        }

    def metrics(self) -> frozenset[str]:
        """Those of what is rounded."""
        return self.of.metrics()


@dataclass(frozen=True)
class SecondsUntil:
    """From now to an instant, which is in seconds since 1970; negative for one that was."""

    of: Expression

    def promql(self) -> str:
        """By `time()`."""
        return f"{_operand(self.of)} - time()"

    def evaluate(self, moment: Moment) -> Vector:
        """Of each."""
        return {labels: value - moment.at / 1000 for labels, value in self.of.evaluate(moment).items()}

    def metrics(self) -> frozenset[str]:
        """Those of the instant."""
        return self.of.metrics()


def _operand(value: Expression | float) -> str:
    if isinstance(value, float | int):
        return f"{value:g}"
    return f"({value.promql()})" if isinstance(value, Arithmetic | SecondsUntil) else value.promql()


def _only(labels: Labels, names: tuple[str, ...]) -> Labels:
    return tuple(each for each in labels if each[0] in names)
