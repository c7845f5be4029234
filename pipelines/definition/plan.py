"""A pipeline that was checked, and what stands behind the values of its file: `${name}` is a whole value.

A reference is replaced by a value with its type and never by text within text: nothing is pasted
into code, SQL or paths. `$${` at the beginning is the text `${`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from pipelines.definition.model import Definition, Step
from pipelines.definition.targets import Target
from pipelines.parameters import Kind, Parameter, validate
from pipelines.parameters.containers import Choice, DictOf, ListOf, Optional
from pipelines.parameters.kinds import Float, Int, Str
from pipelines.parameters.times import Date, Moment, Partition, of_partition

REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
#: What every run has.
OF_RUN: Mapping[str, Kind] = {
    "run.instant": Moment(),  #: the logical instant in UTC; of a run by hand, when it was asked for
    "run.day": Date(),  #: that instant's day in the zone of the schedule
    "run.day_before": Date(),
    "trigger.event": Str(),  #: the id of what started it, such as the path of a file; empty without a trigger
}


@dataclass(frozen=True)
class PlannedStep:
    """A step with what it runs and the types of all that it is given."""

    name: str
    step: Step
    target: Target
    parameters: tuple[Parameter, ...]

    def values(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        """The values that it is given; *scope* has those of `run_scope` and of the parameters of the run."""
        return bind(self.parameters, self.step.parameters, scope)


@dataclass(frozen=True)
class Pipeline:
    """A definition that was checked: it can be run."""

    definition: Definition
    parameters: tuple[Parameter, ...]  #: of its runs
    steps: Mapping[str, PlannedStep]  #: each behind those that it comes after

    @property
    def name(self) -> str:
        """That of its file."""
        return self.definition.name

    @property
    def pins(self) -> dict[str, Any]:
        """What a run of it is a run of: hashes of the definition and of what each step executes."""
        return {
            "definition": self.definition.sha256,
            "steps": {name: each.target.sha256 for name, each in self.steps.items()},
        }

    def run_values(self, given: Mapping[str, Any], scope: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a run that the schedule or a trigger starts: as *given* there, else their defaults.

        Args:
            given: `parameters` of the schedule or the trigger.
            scope: of `run_scope`.
        """
        return validate(self.parameters, bind(self.parameters, given, scope))

    def partition_values(self, name: str) -> dict[str, Any]:
        """What a run is given for the partition of this name, with its type.

        Raises:
            ValueError: when it is no name of one.
        """
        rule = self.definition.partitions
        assert rule is not None, f"{self.name} has no partitions"
        kind = next(each.kind for each in self.parameters if each.name == rule.parameter)
        return {rule.parameter: of_partition(kind, rule.by, name)}


def run_scope(instant: datetime, zone: tzinfo = UTC, event: str = "") -> dict[str, Any]:
    """The values of OF_RUN for a run.

    Args:
        instant: the logical instant, with its zone.
        zone: of the schedule.
        event: the id of what started the run.
    """
    day = instant.astimezone(zone).date()
    return {
        "run.instant": instant.astimezone(UTC),
        "run.day": day,
        "run.day_before": day - timedelta(days=1),
        "trigger.event": event,
    }


def reference(raw: object) -> str | None:
    """The name that a value refers to; None when it is no reference.

    Raises:
        ValueError: when `${` stands within a text, or within a list or a mapping.
    """
    if isinstance(raw, str):
        if match := REFERENCE.fullmatch(raw):
            return match[1]
        if "${" in raw and not raw.startswith("$${"):
            raise ValueError(f"{raw!r} has a reference within a text; a reference is the whole value: ${{name}}")
        return None
    inner = raw.values() if isinstance(raw, dict) else raw if isinstance(raw, list) else ()
    for each in inner:
        if reference(each) is not None:
            raise ValueError(f"{raw!r} has a reference within it; make the whole a parameter, and refer to that")
    return None


def constant(raw: Any) -> Any:
    """A value that is no reference, as it is meant."""
    return raw[1:] if isinstance(raw, str) and raw.startswith("$${") else raw


def bind(parameters: Iterable[Parameter], given: Mapping[str, Any], scope: Mapping[str, Any]) -> dict[str, Any]:
    """The values of those *parameters* that are given, in their order.

    Args:
        parameters: with their types.
        given: values of a checked file.
        scope: what references refer to: `run_scope` and the parameters of the run.

    Raises:
        ValueError: when a value does not fit, which checked files do not have.
    """
    found = {}
    for each in parameters:
        if each.name in given:
            raw = given[each.name]
            name = reference(raw)
            found[each.name] = each.kind.read(constant(raw) if name is None else scope[name])
    return found


def fits(kind: Kind, into: Kind) -> bool:
    """Whether every value of *kind* is one of *into*."""
    if kind == into:
        return True
    match kind, into:
        case Optional(), Optional():
            return fits(kind.inner, into.inner)
        case _, Optional():
            return fits(kind, into.inner)
        case (ListOf(item=one), ListOf(item=other)) | (DictOf(value=one), DictOf(value=other)):
            return fits(one, other)
        case Choice(), _:
            return all(_is_of(into, each) for each in kind.values)
    return (isinstance(kind, Int) and isinstance(into, Float)) or (
        isinstance(kind, Partition) and isinstance(into, Str)
    )


def _is_of(kind: Kind, value: object) -> bool:
    try:
        kind.read(value)
    except ValueError:
        return False
    return True
