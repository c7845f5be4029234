"""What a step runs, as it was found: where it is, its hash, its parameters."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.definition.model import Step
from pipelines.definition.targets.function import import_problem, read_function
from pipelines.definition.targets.notebook import (
    checkpoint_problems,
    notebook_parameters,
    notebook_problems,
    read_notebook,
)
from pipelines.definition.targets.project import Project
from pipelines.parameters import REQUIRED, Parameter
from pipelines.parameters.carried import CHECKPOINT
from pipelines.parameters.declared import unknown_name

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
    """What *step* runs, and everything that is wrong with it; no code of theirs runs here."""
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
    parameters, wrong = (
        notebook_parameters(notebook) if project.kernels.get(notebook.kernel, "python") == "python" else ((), ())
    )
    problems += checkpoint_problems(notebook, step.checkpoints)
    unknown = sorted(set(step.checkpoints) - notebook.marks - {CHECKPOINT})
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
    found = read_function(step.target, project.import_folders)
    problem = import_problem(step.target, project.import_folders) if project.imports else ""
    made = Target("function", step.target, found.sha256, parameters=found.parameters, untyped=found.untyped)
    return made, ((f"{problem}.",) if problem else ())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
