"""A parameter as it is declared, and the values that a run is given for a number of them."""

from __future__ import annotations

import difflib
import keyword
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from pipelines.parameters.kinds import Kind
from workbench.errors import ParametersRefused


class Required(Enum):
    """The default of what has none: None is a value."""

    REQUIRED = "required"

    def __repr__(self) -> str:
        return self.name


REQUIRED: Final = Required.REQUIRED


@dataclass(frozen=True)
class Parameter:
    """A name with a type."""

    name: str
    kind: Kind
    default: Any = REQUIRED
    description: str = ""
    line: int = 0  #: of the cell or the file that declares it; 0 when nobody knows


def is_name(text: str) -> bool:
    """Whether a parameter may be called that: a name of Python, without an underscore before it."""
    return text.isidentifier() and not keyword.iskeyword(text) and not text.startswith("_") and text.isascii()


def validate(parameters: Iterable[Parameter], given: Mapping[str, object]) -> dict[str, Any]:
    """The value of every parameter, in their order: as given, or its default.

    Args:
        parameters: what is declared.
        given: values of Python, or their JSON form.

    Raises:
        ParametersRefused: with every name that is unknown or missing and every value that does not fit.
    """
    return _values(tuple(parameters), given, lambda kind, raw: kind.read(raw))


def parse_texts(parameters: Iterable[Parameter], given: Mapping[str, str]) -> dict[str, Any]:
    """As `validate`, with values as a person types them on a command line or into a form.

    Raises:
        ParametersRefused: as `validate`.
    """
    return _values(tuple(parameters), given, lambda kind, text: kind.parse(text))


def as_json(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """What the store keeps of values that `validate` gave; secrets are references in it."""
    return {each.name: each.kind.as_json(values[each.name]) for each in parameters if each.name in values}


def from_json(parameters: Iterable[Parameter], kept: Mapping[str, Any]) -> dict[str, Any]:
    """The values that `as_json` wrote.

    Raises:
        ParametersRefused: when they are not those of these parameters.
    """
    return validate(parameters, kept)


def form_schema(parameters: Iterable[Parameter]) -> dict[str, Any]:
    """JSON Schema of the values of a run, in their JSON form."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for each in parameters:
        properties[each.name] = {"title": each.name, **each.kind.schema()}
        if each.description:
            properties[each.name]["description"] = each.description
        if each.default is REQUIRED:
            required.append(each.name)
        else:
            properties[each.name]["default"] = each.kind.as_json(each.default)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def unknown_name(name: str, known: Iterable[str], what: str = "parameter") -> str:
    """What to say of a name that is not among the known, with the nearest that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"there is no {what} {name!r}{meant} " + (
        f"Known are {', '.join(known)}." if known else "There is no other."
    )


def _values(
    parameters: tuple[Parameter, ...], given: Mapping[str, Any], read: Callable[[Kind, Any], Any]
) -> dict[str, Any]:
    names = [each.name for each in parameters]
    problems = [unknown_name(name, names) for name in given if name not in names]
    values: dict[str, Any] = {}
    for each in parameters:
        if each.name not in given:
            values[each.name] = each.default
            if each.default is REQUIRED:
                problems.append(f"{each.name} is missing; it is {each.kind.hint}, and has no default.")
            continue
        try:
            values[each.name] = read(each.kind, given[each.name])
        except ValueError as error:
            problems.append(f"{each.name}: {error}. It is {each.kind.hint}.")
    if problems:
        raise ParametersRefused(problems)
    return values
