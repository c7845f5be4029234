"""Conditions of alerts: `error_rate > 5%`, and several that hold at once with `and`.

    condition  = comparison { "and" comparison }
    comparison = quantity ( ">" | ">=" | "<" | "<=" | "==" | "!=" ) threshold
    threshold  = number [ unit ] | duration      such as 5%  30s  1.5h  1h30m  14d  10  500MB  2GiB

Parts of one condition have the same labels, so that it is clear what holds at once.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass

from workbench import durations
from workbench.observability.alerts.expressions import COMPARISONS, Moment
from workbench.observability.alerts.quantities import QUANTITIES, Quantity, Unit
from workbench.observability.alerts.samples import Vector

COMPARISON = re.compile(
    r"\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?P<sign>>=|<=|==|!=|>|<)\s*"
    r"(?:(?P<duration>(?:[0-9.]+[a-z]+){2,})"
    r"|(?P<number>-?(?:\d{1,15}(?:\.\d{0,9})?|\.\d{1,9}))\s*(?P<unit>%|[A-Za-z]{0,3}))\s*"
)
AND = re.compile(r"\band\b")
MOST_PARTS = 5
UNITS: dict[Unit, dict[str, float]] = {
    Unit.SHARE: {"": 1, "%": 0.01},
    Unit.SECONDS: {name: milliseconds / 1000 for name, milliseconds in durations.UNITS.items()},
    Unit.BYTES: {
        "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    },
    Unit.NUMBER: {"": 1},
}  # fmt: skip


class ConditionProblem(ValueError):
    """A condition cannot be read; the message says what is wrong with it and what to write."""


@dataclass(frozen=True)
class Comparison:
    """One quantity and its threshold."""

    quantity: Quantity
    sign: str
    threshold: float  #: in the quantity's unit

    def promql(self, seconds: int) -> str:
        """As Prometheus reads it: what is left are the values for which it holds."""
        return f"({self.quantity.expression(seconds).promql()}) {self.sign} {_number(self.threshold)}"

    def holds(self, moment: Moment, seconds: int) -> Vector:
        """The values for which it holds; NaN is not more, less or equal to anything, only unequal."""
        compare = COMPARISONS[self.sign]
        found = self.levels(moment, seconds)
        return {labels: value for labels, value in found.items() if compare(value, self.threshold)}

    def levels(self, moment: Moment, seconds: int) -> Vector:
        """All values of the quantity, whether it holds for them or not."""
        return moment.value_of(self.quantity.expression(seconds))

    def nearest(self, moment: Moment, seconds: int, most: int) -> Vector:
        """The *most* values for which it holds first, or would: the greatest, or where less is worse the least."""
        sign = 1 if self.sign.startswith("<") else -1
        found = sorted(
            self.levels(moment, seconds).items(), key=lambda each: (math.isnan(each[1]), sign * each[1], each[0])
        )
        return dict(found[:most])


@dataclass(frozen=True)
class Condition:
    """Comparisons that hold at once."""

    text: str
    parts: tuple[Comparison, ...]

    @property
    def is_count(self) -> bool:
        """Whether the duration is the window in which something is counted."""
        return any(each.quantity.is_count for each in self.parts)

    def promql(self, seconds: int) -> str:
        """As Prometheus reads it.

        Args:
            seconds: of the alert's duration.
        """
        return " and ".join(each.promql(seconds) for each in self.parts)

    def holds(self, moment: Moment, seconds: int) -> Vector:
        """The labels for which all of it holds, with the value of the first comparison."""
        first, *others = (each.holds(moment, seconds) for each in self.parts)
        return {labels: value for labels, value in first.items() if all(labels in each for each in others)}


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConditionProblem: when it is none.
    """
    parts = AND.split(text)
    if len(parts) > MOST_PARTS:
        raise ConditionProblem(f"has {len(parts)} comparisons; write at most {MOST_PARTS}.")
    found = tuple(_comparison(each) for each in parts)
    labels = {each.quantity.by for each in found}
    if len(labels) > 1:
        told = " and ".join(f"{each.quantity.name} ({_labels(each.quantity)})" for each in found)
        raise ConditionProblem(f"joins quantities with different labels: {told}; write an alert for each.")
    return Condition(" ".join(text.split()), found)


def _comparison(text: str) -> Comparison:
    found = COMPARISON.fullmatch(text)
    if found is None:
        raise ConditionProblem(f"{text.strip()!r} is no comparison; write one such as error_rate > 5%.")
    name = found["name"]
    if name not in QUANTITIES:
        close = difflib.get_close_matches(name, QUANTITIES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(QUANTITIES)}."
        raise ConditionProblem(f"there is no quantity {name!r}; {hint}")
    quantity = QUANTITIES[name]
    return Comparison(quantity, found["sign"], _threshold(quantity, found))


def _threshold(quantity: Quantity, found: re.Match[str]) -> float:
    if found["duration"] and quantity.unit is Unit.SECONDS:
        try:
            return durations.parse_duration(found["duration"]).total_seconds()
        except ValueError as error:
            raise ConditionProblem(f"{error}.") from None
    units, unit = UNITS[quantity.unit], found["duration"] or found["unit"]
    if unit not in units:
        known = ", ".join(repr(each) if each else "none" for each in units)
        raise ConditionProblem(f"{unit!r} is no unit of {quantity.name}; its units are {known}.")
    # Rounded, since 0.07 is what people mean by 7%, and not 0.07000000000000001.
    return float(f"{float(found['number']) * units[unit]:.15g}")


def _labels(quantity: Quantity) -> str:
    return ", ".join(quantity.by) or "none"


def _number(value: float) -> str:
    return str(int(value)) if value == math.floor(value) and abs(value) < 1e15 else repr(value)
