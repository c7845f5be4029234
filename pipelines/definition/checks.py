"""Checks a definition against its project: all that would keep a run from its end is found before one begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pipelines.definition.document import Document, Place, Problem
from pipelines.definition.model import Declaration, Definition, Step
from pipelines.definition.targets import Project, Target, read_target
from pipelines.definition.values import OF_RUN, bind, constant, fits, kind_of, reference
from pipelines.parameters import REQUIRED, Kind, Parameter, parse_hint
from pipelines.parameters.declared import unknown_name
from pipelines.parameters.hints import infer
from pipelines.parameters.kinds import Secret, Str
from pipelines.parameters.times import Date, Moment, Partition, of_partition

Wrong = Iterator[tuple[Place, str]]


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

    def partition_values(self, name: str) -> dict[str, Any]:
        """What a run is given for the partition of this name, with its type.

        Raises:
            ValueError: when it is no name of one.
        """
        rule = self.definition.partitions
        assert rule is not None, f"{self.name} has no partitions"
        kind = next(each.kind for each in self.parameters if each.name == rule.parameter)
        return {rule.parameter: of_partition(kind, rule.by, name)}


def check(definition: Definition, document: Document, project: Project) -> tuple[Pipeline | None, list[Problem]]:
    """The pipeline that can be run, or everything that is wrong.

    Args:
        definition: what the document holds, or what of it is right by itself.
        document: says where problems are, and which steps there are besides.
        project: where files and kernels are.
    """
    wrong: list[tuple[Place, str]] = []
    order = _order(definition, list(document.value["steps"]), wrong)
    targets: dict[str, Target] = {}
    for name, step in definition.steps.items():
        target, faults = read_target(step, project)
        wrong += [(("steps", name, step.kind), each) for each in faults]
        if target is not None:
            targets[name] = target
    parameters = _run_parameters(definition, targets, wrong)
    scope = {**OF_RUN, **{each.name: each.kind for each in parameters}}
    steps = {}
    for name in order:
        if name in targets:
            typed = _step_parameters(name, definition, targets[name], scope, wrong)
            steps[name] = PlannedStep(name, definition.steps[name], targets[name], typed)
    wrong += _start_problems(definition, parameters)
    wrong += _partition_problems(definition, parameters)
    wrong += _trigger_problems(definition, document.path, project)
    problems = [document.problem(*each) for each in wrong]
    return (None if problems else Pipeline(definition, parameters, steps)), problems


def _order(definition: Definition, names: list[str], wrong: list[tuple[Place, str]]) -> tuple[str, ...]:
    """The steps, each behind those that it comes after, else as they are written."""
    for name, step in definition.steps.items():
        for number, other in enumerate(step.after):
            if other not in names:
                wrong.append((("steps", name, "after", number), unknown_name(other, names, "step")))
    known = {name: [each for each in step.after if each in definition.steps] for name, step in definition.steps.items()}
    try:
        return tuple(TopologicalSorter(known).static_order())
    except CycleError as error:
        circle = " → ".join(error.args[1])
        wrong.append(
            (
                ("steps", error.args[1][-1], "after"),
                f"steps wait for each other in a circle, {circle}; take one `after` away.",
            )
        )
        return tuple(definition.steps)


def _run_parameters(
    definition: Definition, targets: Mapping[str, Target], wrong: list[tuple[Place, str]]
) -> tuple[Parameter, ...]:
    found = []
    for name, declared in definition.parameters.items():
        try:
            found.append(_run_parameter(name, declared, definition, targets))
        except ValueError as error:
            wrong.append((("parameters", name), f"{error}."))
    return tuple(found)


def _run_parameter(
    name: str, declared: Declaration, definition: Definition, targets: Mapping[str, Target]
) -> Parameter:
    given_to = _given_to(name, definition, targets)
    if declared.type is not None:
        kind = parse_hint(declared.type)
    elif given_to is not None:
        kind = given_to.kind
    elif declared.default is not REQUIRED:
        kind = infer(declared.default)
    else:
        raise ValueError(
            f"{name} has no type, and no step with a type for it is given ${{{name}}}; write `{name}: int`"
        )
    default, description = declared.default, declared.description
    if default is not REQUIRED:
        default = kind.read(default)
    elif given_to is not None and declared.type is None:
        default, description = given_to.default, description or given_to.description
    return Parameter(name, kind, default, description)


def _given_to(name: str, definition: Definition, targets: Mapping[str, Target]) -> Parameter | None:
    """The first parameter of a step that is given this parameter of the run."""
    for step, target in targets.items():
        of_target = {each.name: each for each in target.parameters}
        for own, raw in definition.steps[step].parameters.items():
            if raw == f"${{{name}}}" and own in of_target:
                return of_target[own]
    return None


def _step_parameters(
    name: str, definition: Definition, target: Target, scope: Mapping[str, Kind], wrong: list[tuple[Place, str]]
) -> tuple[Parameter, ...]:
    step = definition.steps[name]
    kinds = {each.name: each.kind for each in target.parameters}
    found = []
    for own, raw in step.parameters.items():
        if own not in target.names:
            wrong.append(
                (("steps", name, "parameters", own), unknown_name(own, target.names, f"parameter of {step.target},"))
            )
            continue
        try:
            kind = kinds.get(own)
            _check_value(raw, kind, scope, definition)
            found.append(Parameter(own, kind or kind_of(raw, scope)))
        except ValueError as error:
            wrong.append((("steps", name, "parameters", own), f"{error}."))
    missing = [each for each in target.required if each not in step.parameters]
    wrong += [
        (
            ("steps", name),
            f"{step.target} needs the parameter {each}, which has no default; give it under `parameters`.",
        )
        for each in missing
    ]
    return tuple(sorted(found, key=lambda each: target.names.index(each.name)))


def _check_value(raw: Any, into: Kind | None, scope: Mapping[str, Kind], definition: Definition) -> None:
    """Let a value pass that fits; *into* None takes any that is no secret."""
    name = reference(raw)
    if name is None:
        if into is not None:
            into.read(constant(raw))
        return
    if name not in scope:
        if name in definition.parameters:
            return  # it is wrong itself, and told so
        raise ValueError(unknown_name(name, scope).rstrip("."))
    if into is None and isinstance(scope[name], Secret):
        raise ValueError(f"${{{name}}} is a secret, and this parameter is not declared to take one")
    if into is not None and not fits(scope[name], into):
        raise ValueError(f"${{{name}}} is {scope[name].hint}, and the parameter takes {into.hint}")


def _start_problems(definition: Definition, parameters: tuple[Parameter, ...]) -> Wrong:
    """What is wrong with the values of runs that nobody starts by hand."""
    starts: list[tuple[Place, Mapping[str, Any]]] = []
    if definition.schedule is not None:
        starts.append((("schedule",), definition.schedule.parameters))
    starts += [(("triggers", number), each.parameters) for number, each in enumerate(definition.triggers)]
    kinds = {each.name: each.kind for each in parameters}
    for place, given in starts:
        for name, raw in given.items():
            try:
                if name not in definition.parameters:
                    raise ValueError(unknown_name(name, kinds).rstrip("."))  # noqa: TRY301 - told with its place
                if name in kinds:
                    _check_value(raw, kinds[name], OF_RUN, definition)
            except ValueError as error:
                yield (*place, "parameters", name), f"{error}."
        yield from ((place, text) for text in _missing(parameters, given))


def _missing(parameters: tuple[Parameter, ...], given: Mapping[str, Any]) -> Iterator[str]:
    for each in parameters:
        if each.default is REQUIRED and each.name not in given:
            yield f"the parameter {each.name} has no default, and these runs are not given one; write it under `parameters`."


def _partition_problems(definition: Definition, parameters: tuple[Parameter, ...]) -> Wrong:
    rule = definition.partitions
    if rule is None:
        return
    kinds = {each.name: each.kind for each in parameters}
    if rule.parameter not in definition.parameters:
        yield ("partitions", "parameter"), unknown_name(rule.parameter, kinds)
        return
    fitting: list[Kind] = [Partition(rule.by), Str(), Moment() if rule.by == "hour" else Date()]
    if rule.parameter in kinds and kinds[rule.parameter] not in fitting:
        known = " or ".join(each.hint for each in fitting)
        yield ("partitions", "parameter"), f"{rule.parameter} is {kinds[rule.parameter].hint}; make it {known}."
    for text in _missing(parameters, {rule.parameter: None}):
        yield ("partitions",), text.replace("; write it under `parameters`", "; give it a default")


def _trigger_problems(definition: Definition, path: Path, project: Project) -> Wrong:
    known = sorted({each.stem for folder in (project.jobs, path.parent) for each in folder.glob("*.yaml")})
    for number, trigger in enumerate(definition.triggers):
        if trigger.pipeline is not None and trigger.pipeline.name not in known:
            yield ("triggers", number, "pipeline", "name"), unknown_name(trigger.pipeline.name, known, "pipeline")
