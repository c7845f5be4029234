"""The source of the cell that is put behind the `parameters` cell of a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pipelines.parameters.declared import Parameter
from pipelines.parameters.kinds import Source
from workbench.references import SecretReference

WIDTH = 88  # of black
HEAD = "# Parameters of this run"

#: Given a name and its reference, an expression of Python that reads the secret when the cell runs.
RevealSource = Callable[[str, SecretReference], str]


def cell_source(
    parameters: Iterable[Parameter], values: Mapping[str, Any], *, reveal: RevealSource | None = None
) -> str:
    """Assignments of *values* in the order of *parameters*, with the imports that they need.

    Imported names begin with an underscore, so that none of the notebook's is replaced.

    Args:
        parameters: of the notebook.
        values: what `validate` gave; a parameter without a value is left as its notebook has it.
        reveal: makes the expression for a secret; without it secrets are left out, for whoever
            sets them in the kernel by other means.

    Example:
        >>> print(cell_source([Parameter("day", parse_hint("date"))], {"day": date(2013, 1, 31)}))
        # Parameters of this run
        from datetime import date as _date
        <BLANKLINE>
        day = _date(2013, 1, 31)
    """
    lines: list[str] = []
    imports: set[str] = set()
    for each in parameters:
        if each.name not in values:
            continue
        value = values[each.name]
        if isinstance(value, SecretReference):
            if reveal is not None:
                lines.append(f"{each.name} = {reveal(each.name, value)}")
            continue
        source = each.kind.as_source(value)
        imports |= source.imports
        lines += _laid_out(f"{each.name} = ", source, "", indent="")
    head = [HEAD, *sorted(imports), *([""] if imports else [])]
    return "\n".join([*head, *lines])


def _laid_out(before: str, source: Source, after: str, *, indent: str) -> list[str]:
    line = f"{indent}{before}{source.text}{after}"
    if len(line) <= WIDTH or not source.items:
        return [line]
    inner = [laid for name, item in source.items for laid in _laid_out(name, item, ",", indent=f"{indent}    ")]
    return [f"{indent}{before}{source.text[0]}", *inner, f"{indent}{source.text[-1]}{after}"]
