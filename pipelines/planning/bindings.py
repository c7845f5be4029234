"""What each step of a run is given, fixed when the run is made: values with their types, as the store keeps them.

The types come from notebooks, functions and files as they were then. So whoever runs a step
needs none of the other steps to know what its values are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.parameters import Parameter, SecretReference, parse_hint


@dataclass(frozen=True)
class Bindings:
    """The parameters of one step that it is given, with their values; a secret is a reference."""

    parameters: tuple[Parameter, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def secrets(self) -> Mapping[str, SecretReference]:
        """Those values that are references to secrets."""
        return {name: value for name, value in self.values.items() if isinstance(value, SecretReference)}


def write_bindings(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """What `read_bindings` reads: the type and the JSON form of each value that is there."""
    return {
        each.name: [each.kind.hint, each.kind.as_json(values[each.name])] for each in parameters if each.name in values
    }


def read_bindings(kept: Mapping[str, Any]) -> Bindings:
    """What `write_bindings` wrote.

    Raises:
        ValueError: when it was another version of the workbench, whose types this one does not know.
    """
    parameters = tuple(Parameter(name, parse_hint(hint)) for name, (hint, _) in kept.items())
    return Bindings(parameters, {each.name: each.kind.read(kept[each.name][1]) for each in parameters})
