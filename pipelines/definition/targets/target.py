"""What a step runs, as it was found: where it is, its hash, its parameters."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.definition.model import Step
from pipelines.definition.targets.notebook import notebook_parameters, notebook_problems, read_notebook
from pipelines.definition.targets.project import Project
from pipelines.parameters import REQUIRED, Parameter, parse_hint
from pipelines.parameters.declared import unknown_name
from pipelines.parameters.hints import infer
from pipelines.parameters.kinds import Kind

BOUND = re.compile(r"(?<![:\w\\]):(?P<name>\w+)(?!:)")  # of sqlalchemy.text


@dataclass(frozen=True)
class Target:
    """What one step runs."""

    kind: str  #: notebook, function, sql or flow
    where: str  #: a path, `module:name`, or the name of a flow
    sha256: str  #: of what executes
    kernel: str = ""  #: of a notebook
    parameters: tuple[Parameter, ...] = ()
    untyped: Mapping[str, bool] = field(default_factory=dict)  #: parameters without a type: whether they must be given

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its parameters."""
        return (*(each.name for each in self.parameters), *self.untyped)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the parameters that a step has to give."""
        typed = (each.name for each in self.parameters if each.default is REQUIRED)
        return (*typed, *(name for name, must in self.untyped.items() if must))


def read_target(step: Step, project: Project) -> tuple[Target | None, tuple[str, ...]]:
    """What *step* runs, and everything that is wrong with it. A function's module is imported."""
    readers: dict[str, Callable[[Step, Project], tuple[Target | None, tuple[str, ...]]]] = {
        "notebook": _notebook,
        "function": _function,
        "sql": _sql,
        "flow": _flow,
    }
    try:
        return readers[step.kind](step, project)
    except ValueError as error:
        return None, (f"{error}.",)


def _notebook(step: Step, project: Project) -> tuple[Target, tuple[str, ...]]:
    notebook = read_notebook(project.find(step.target))
    problems = [*notebook_problems(notebook, project.kernels, needs_parameters=bool(step.parameters))]
    parameters, wrong = notebook_parameters(notebook) if project.kernels.get(notebook.kernel) == "python" else ((), ())
    unknown = sorted(set(step.checkpoints) - notebook.marks)
    problems += [unknown_name(each, sorted(notebook.marks), "cell with the tag or id") for each in unknown]
    found = Target("notebook", str(notebook.path), notebook.sha256, notebook.kernel, parameters)
    return found, (*problems, *wrong)


def _sql(step: Step, project: Project) -> tuple[Target, tuple[str, ...]]:
    path = project.find(step.target)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{step.target} is no text in UTF-8: {error}") from None
    return Target("sql", str(path), _sha256(text), untyped=dict.fromkeys(BOUND.findall(text), True)), ()


def _flow(step: Step, project: Project) -> tuple[Target, tuple[str, ...]]:
    if step.target not in project.flows:
        raise ValueError(unknown_name(step.target, project.flows, "flow").rstrip("."))
    path = project.find(f"pipelines/flows/{step.target}.yaml")
    return Target("flow", step.target, _sha256(Path(path).read_text(encoding="utf-8"))), ()


def _function(step: Step, project: Project) -> tuple[Target, tuple[str, ...]]:
    function = _imported(step.target)
    typed: list[Parameter] = []
    untyped: dict[str, bool] = {}
    for each in inspect.signature(function).parameters.values():
        if each.kind in {each.VAR_KEYWORD, each.VAR_POSITIONAL, each.POSITIONAL_ONLY}:
            raise ValueError(f"{step.target} takes `{each}`; a step gives its parameters by name")
        if (kind := _kind_of(each)) is None:
            untyped[each.name] = each.default is each.empty
        else:
            default = REQUIRED if each.default is each.empty else kind.read(each.default)
            typed.append(Parameter(each.name, kind, default))
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):  # of a built-in function, or of a module without its source
        source = step.target
    return Target("function", step.target, _sha256(source), parameters=tuple(typed), untyped=untyped), ()


def _imported(target: str) -> Callable[..., Any]:
    module, name = target.split(":")
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the module does when it is imported
        raise ValueError(f"{module} cannot be imported: {type(error).__name__}: {error}") from None
    function = getattr(imported, name, None)
    if not inspect.isroutine(function):
        raise ValueError(f"the module {module} has no function {name}")
    return function


def _kind_of(parameter: inspect.Parameter) -> Kind | None:
    hint = parameter.annotation
    try:
        if hint is not parameter.empty:
            return parse_hint(hint if isinstance(hint, str) else inspect.formatannotation(hint))
        return infer(parameter.default) if parameter.default is not parameter.empty else None
    except ValueError:  # a type of its own: any value may be given
        return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
