"""What the dialog needs to know of the parameters of a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipelines.jupyter.drafting import default_text
from pipelines.parameters import REQUIRED, Parameter
from pipelines.parameters.containers import Choice, Optional
from pipelines.parameters.kinds import Bool, Kind


def parameter_fields(parameters: Iterable[Parameter]) -> list[dict[str, Any]]:
    """One field for each, in their order; values are as people type them."""
    return [
        {
            "name": each.name,
            "type": each.kind.hint,
            "description": each.description,
            "default": default_text(each),
            "is_required": each.default is REQUIRED,
            "choices": _choices(each.kind),
        }
        for each in parameters
    ]


def _choices(kind: Kind) -> list[str]:
    """All values, where there are few; empty where there are many."""
    match kind:
        case Bool():
            return ["true", "false"]
        case Choice():
            return [kind.as_text(each) for each in kind.values]
        case Optional() if inner := _choices(kind.inner):
            return [*inner, "null"]
    return []
