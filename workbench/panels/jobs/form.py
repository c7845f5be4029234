"""A form for the values of a run, made of the JSON Schema of its parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from workbench.errors import ParametersRefused
from workbench.panels.jobs.state import RunForm

Values = dict[str, Any]
LABELLED = {"style": {"description_width": "initial"}, "layout": {"width": "420px"}, "tabbable": True}


def make_fields(form: RunForm) -> dict[str, Any]:
    """A widget for each parameter, in their order, filled with its default."""
    return {name: _field(name, schema, is_required=name in form.required) for name, schema in form.schema.items()}


def read_values(form: RunForm, fields: Mapping[str, Any]) -> Values:
    """The values in their JSON form. A field that was left empty and has a default is left out.

    Raises:
        ParametersRefused: with everything that is no value of its type; the service checks the rest.
    """
    found, problems = Values(), []
    for name, field in fields.items():
        schema = form.schema[name]
        typed = field.value
        if typed is None or typed == "":
            if _takes_null(schema) and "default" not in schema:
                found[name] = None
            elif name in form.required and not _takes_null(schema):
                problems.append(f"{name} has no value.")
            continue
        try:
            found[name] = _value(schema, typed)
        except ValueError:
            problems.append(f"{name}: {typed!r} is no {_kind(schema)}.")
    if problems:
        raise ParametersRefused(problems)
    return found


def _field(name: str, schema: Mapping[str, Any], *, is_required: bool) -> Any:
    import ipywidgets

    about = str(schema.get("description") or _kind(schema))
    options = {"description": f"{name} *" if is_required else name, "tooltip": about, **LABELLED}
    default = schema.get("default")
    if "enum" in schema:
        return ipywidgets.Dropdown(options=schema["enum"], value=default if "default" in schema else None, **options)
    if schema.get("type") == "boolean":
        return ipywidgets.Dropdown(options=[("true", True), ("false", False)], value=default, **options)
    if schema.get("format") == "date":
        return ipywidgets.DatePicker(value=date.fromisoformat(default) if default else None, **options)
    text = "" if default is None else default if isinstance(default, str) else json.dumps(default)
    return ipywidgets.Text(value=text, placeholder=_kind(schema), **options)


def _value(schema: Mapping[str, Any], typed: Any) -> Any:
    if isinstance(typed, date):
        return typed.isoformat()
    if not isinstance(typed, str):
        return typed
    kinds = {each.get("type") for each in (schema, *schema.get("anyOf", ()))}
    if "string" in kinds:
        return typed
    try:
        return json.loads(typed)
    except ValueError:
        words = [value for each in schema.get("anyOf", ()) for value in each.get("enum", ())]
        if typed in words:
            return typed
        raise


def _kind(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "secret-reference":
        return "reference such as env:NAME, never the secret itself"
    kinds = [str(each.get("format") or each.get("type") or "value") for each in schema.get("anyOf", (schema,))]
    return " or ".join(dict.fromkeys(kinds))


def _takes_null(schema: Mapping[str, Any]) -> bool:
    return any(each.get("type") == "null" for each in schema.get("anyOf", ()))
