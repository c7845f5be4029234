"""The fields of the form for a run, made of the JSON Schema of its parameters; what comes back is text, as people type it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "p."  #: of fields that are parameters


@dataclass(frozen=True, kw_only=True)
class Field:
    """One parameter."""

    name: str
    kind: str  #: select, date, number or text
    value: str
    is_required: bool
    description: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()


def form_fields(
    schema: Mapping[str, Any], texts: Mapping[str, str], given: Mapping[str, str] | None = None
) -> list[Field]:
    """Fields in the order of the parameters.

    Args:
        schema: of `form_schema`.
        texts: defaults by name.
        given: what somebody has typed, to be corrected.
    """
    typed = given or {}
    return [
        _field(name, each, typed.get(name, texts.get(name, "")), is_required=name in schema["required"])
        for name, each in schema["properties"].items()
    ]


def given_texts(arguments: Mapping[str, Iterable[str]], texts: Mapping[str, str]) -> dict[str, str]:
    """What was typed, by name. A field that was left empty and has a default has that."""
    # Forms send each end of a line as two characters.
    typed = {
        name.removeprefix(PREFIX): list(each)[-1].replace("\r\n", "\n")
        for name, each in arguments.items()
        if name.startswith(PREFIX)
    }
    return {name: text for name, text in typed.items() if text or name not in texts}


def _field(name: str, schema: Mapping[str, Any], value: str, *, is_required: bool) -> Field:
    kind, hint, choices = "text", "", tuple[str, ...]()
    is_optional = any(each.get("type") == "null" for each in schema.get("anyOf", ()))
    if is_optional:
        schema = {**schema["anyOf"][0], **{key: each for key, each in schema.items() if key != "anyOf"}}
    if "enum" in schema:
        kind, choices = "select", tuple(map(str, schema["enum"]))
    elif schema.get("type") == "boolean":
        kind, choices = "select", ("true", "false")
    elif schema.get("format") == "date" and not is_optional:
        kind = "date"
    elif schema.get("type") == "integer" and not is_optional:
        kind = "number"
    elif schema.get("type") in {"array", "object"}:
        hint = "JSON"
    elif schema.get("format") == "secret-reference":
        hint = "a reference such as env:NAME, never the secret itself"
    if kind == "select" and (is_optional or value not in choices):
        choices = tuple(dict.fromkeys(["", value, *choices]))
    return Field(
        name=name, kind=kind, value=value, is_required=is_required and not is_optional,
        description=str(schema.get("description", "")), hint=hint, choices=choices,
    )  # fmt: skip
