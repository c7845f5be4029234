"""Makes the text of a definition of a form, and checks it as `workbench pipelines check` does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.calendar import Schedule, next_instants
from pipelines.definition import Problem, Step, check_text
from pipelines.definition.rules import NAME
from pipelines.definition.targets.project import JOBS
from pipelines.definition.targets.target import read_target
from pipelines.definition.writing import AS_TARGET, write_document
from pipelines.jupyter.form import Form
from pipelines.jupyter.places import Place
from pipelines.parameters import REQUIRED, Parameter
from pipelines.parameters.kinds import Secret

SCHEMA = "pipeline.schema.json"
INSTANTS = 5
NO_REFERENCE = "REFERENCE"  # stands for what was typed in place of a reference to a secret, and may be the secret


@dataclass(frozen=True)
class Draft:
    """A definition that nobody has written yet."""

    place: Place
    name: str  #: as it was typed; what is no name leads to no file
    text: str
    parameters: tuple[Parameter, ...]  #: of the notebook
    problems: tuple[Problem, ...]

    @property
    def is_named(self) -> bool:
        """Whether its name may be one."""
        return re.fullmatch(NAME, self.name) is not None

    @property
    def file(self) -> str:
        """Its path, from the project's folder on."""
        return f"{JOBS}/{self.name}.yaml"


def make_draft(form: Form, place: Place) -> Draft:
    """The definition that a form asks for, and everything that is wrong with it; nothing of the notebook is run."""
    project = place.project
    # What is wrong with the notebook is told by the check.
    target, _ = read_target(Step(notebook=place.notebook), project)
    parameters = target.parameters if target is not None else ()
    has_schema = (place.folder / JOBS / SCHEMA).is_file()
    comment = f"yaml-language-server: $schema={SCHEMA}" if has_schema else ""
    text = write_document(_fields(form, place, parameters), comment)
    return Draft(place, form.name, text, parameters, check_text(form.name, text, project).problems)


def instants(form: Form) -> list[dict[str, str]]:
    """The next instants of the schedule, each local and in UTC; none while there is no schedule or a wrong one."""
    try:
        schedule = Schedule(cron=form.cron, zone=form.zone)
    except ValueError:
        return []
    found = next_instants(schedule, datetime.now(UTC), INSTANTS)
    return [{"local": f"{local:%a %Y-%m-%d %H:%M %z}", "utc": f"{utc:%a %Y-%m-%d %H:%M}"} for local, utc in found]


def step_name(path: str) -> str:
    """A name made of that of a notebook.

    Example:
        >>> step_name("reports/Délais du mois.ipynb")
        'd-lais-du-mois'
    """
    stem = path.rpartition("/")[2].removesuffix(".ipynb").lower()
    return re.sub(r"[^a-z0-9_]+", "-", stem).strip("-_")[:50].strip("-_") or "notebook"


def _fields(form: Form, place: Place, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    given = _given(form, parameters)
    is_scheduled = bool(form.cron)
    # Without a schedule that could give them, other values are the defaults of the runs.
    declared = _declared(parameters, given, has_defaults=not is_scheduled)
    schedule = {"cron": form.cron, "zone": form.zone, "parameters": given} if is_scheduled else {}
    step = {
        "notebook": place.notebook,
        "parameters": {name: f"${{{name}}}" for name in declared},
        "retries": _filled({"times": _number(form.retries), "wait": form.wait}),
        "timeout": form.step_timeout,
    }
    return _filled(
        {
            "description": form.description,
            "owner": form.owner,
            "parameters": declared,
            "schedule": _filled(schedule),
            "steps": {step_name(place.notebook): _filled(step)},
            "timeout": form.timeout,
        }
    )


def _given(form: Form, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    """The values that were typed and are not the defaults, as a file has them."""
    kinds = {each.name: each for each in parameters}
    return {
        name: _value(kinds.get(name), text)
        for name, text in form.parameters.items()
        if text and text != default_text(kinds.get(name))
    }


def default_text(parameter: Parameter | None) -> str:
    """What a person would type for the default; empty when there is none."""
    if parameter is None or parameter.default is REQUIRED:
        return ""
    return parameter.kind.as_text(parameter.default)


def _value(parameter: Parameter | None, text: str) -> Any:
    """The JSON form of what was typed; what does not fit stays as it is, for the check to say so."""
    if parameter is None or text.startswith("${"):
        return text
    try:
        return parameter.kind.as_json(parameter.kind.parse(text))
    except ValueError:
        return NO_REFERENCE if parameter.kind.hint.partition(" ")[0] == Secret().hint else text


def _declared(parameters: tuple[Parameter, ...], given: Mapping[str, Any], *, has_defaults: bool) -> dict[str, Any]:
    """The parameters of the runs. One that the notebook does not know is among them, so that the check tells of it."""
    hints = {each.name: {"type": each.kind.hint} for each in parameters}
    return {
        name: {**hints.get(name, {}), "default": given[name]} if has_defaults and name in given else AS_TARGET
        for name in dict.fromkeys([*hints, *given])
    }


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else text


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say something."""
    return {name: each for name, each in fields.items() if each not in ("", {})}
