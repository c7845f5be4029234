"""Checks a definition against its project: all that would keep a run from its end is found before one begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pipelines.definition.channels import unknown_channels
from pipelines.definition.document import Document, Place, Problem
from pipelines.definition.model import Declaration, Definition
from pipelines.definition.plan import OF_RUN, Pipeline, PlannedStep, constant, fits, reference
from pipelines.definition.targets import Project, Target, read_target
from pipelines.parameters import REQUIRED, Kind, Parameter, parse_hint
from pipelines.parameters.declared import unknown_name
from pipelines.parameters.hints import infer
from pipelines.parameters.kinds import Secret, Str
from pipelines.parameters.times import Date, Moment, Partition

Wrong = Iterator[tuple[Place, str]]


def check(definition: Definition, document: Document, project: Project) -> tuple[Pipeline | None, list[Problem]]:
    """The pipeline that can be run, or everything that is wrong.

    Args:
        definition: what the document holds, or what of it is right by itself.
        document: says where problems are, and which steps there are besides.
        project: where files and kernels are.
    """
    wrong: list[tuple[Place, str]] = []
    declared = document.names("parameters")
    order = _order(definition, document.names("steps"), wrong)
    targets, faulty = _targets(definition, project, wrong)
    parameters = _run_parameters(definition, targets, wrong)
    scope = _Scope({**OF_RUN, **{each.name: each.kind for each in parameters}}, declared)
    steps = {}
    for name in order:
        if name in targets:
            typed = _step_parameters(name, definition, targets[name], scope, wrong, is_faulty=name in faulty)
            steps[name] = PlannedStep(name, definition.steps[name], targets[name], typed)
    wrong += _start_problems(definition, parameters, declared)
    wrong += _partition_problems(definition, parameters, declared)
    wrong += _trigger_problems(definition, document.path, project)
    wrong += unknown_channels(definition, project.alerts)
    wrong += _alert_problems(definition)
    problems = [document.problem(*each) for each in wrong]
    return (None if problems else Pipeline(definition, parameters, steps)), problems


@dataclass(frozen=True)
class _Scope:
    """What references may name."""

    kinds: Mapping[str, Kind]
    declared: tuple[
        str, ...
    ] = ()  #: parameters of the file, those too that are wrong themselves, which is told elsewhere

    def kind(self, raw: Any, into: Kind | None) -> Kind | None:
        """The type that a parameter has with this value; None when what it refers to is wrong itself.

        Raises:
            ValueError: when the value does not fit *into*; None takes any that is no secret.
        """
        name = reference(raw)
        if name is None:
            if into is None:
                return infer(constant(raw))
            into.read(constant(raw))
            return into
        if name not in self.kinds:
            if name in self.declared:
                return None
            raise ValueError(unknown_name(name, self.kinds).rstrip("."))
        given = self.kinds[name]
        if into is None and isinstance(given, Secret):
            raise ValueError(f"${{{name}}} is a secret, and this parameter is not declared to take one")
        if into is not None and not fits(given, into):
            raise ValueError(f"${{{name}}} is {given.hint}, and the parameter takes {into.hint}")
        return into or given


def _order(definition: Definition, names: tuple[str, ...], wrong: list[tuple[Place, str]]) -> tuple[str, ...]:
    """The steps, each behind those that it comes after, else as they are written."""
    for name, step in definition.steps.items():
        for number, other in enumerate(step.after):
            if other not in names:
                wrong.append((("steps", name, "after", number), unknown_name(other, names, "step")))
    known = {name: [each for each in step.after if each in definition.steps] for name, step in definition.steps.items()}
    try:
        return tuple(TopologicalSorter(known).static_order())
    except CycleError as error:
        circle = error.args[1]
        text = f"steps wait for each other in a circle, {' → '.join(circle)}; take one `after` away."
        wrong.append((("steps", circle[-1], "after"), text))
        return tuple(definition.steps)


def _targets(
    definition: Definition, project: Project, wrong: list[tuple[Place, str]]
) -> tuple[dict[str, Target], frozenset[str]]:
    """What the steps run, and the names of steps that run something with faults."""
    targets: dict[str, Target] = {}
    faulty: set[str] = set()
    for name, step in definition.steps.items():
        target, faults = read_target(step, project)
        if target is not None:
            targets[name] = target
        if faults:
            faulty.add(name)
            wrong += [(("steps", name, step.kind), each) for each in faults]
    return targets, frozenset(faulty)


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
    name: str,
    definition: Definition,
    target: Target,
    scope: _Scope,
    wrong: list[tuple[Place, str]],
    *,
    is_faulty: bool,
) -> tuple[Parameter, ...]:
    """What the step is given, with types, in the order of its target; a faulty one may have more than is known of it."""
    step = definition.steps[name]
    kinds = {each.name: each.kind for each in target.parameters}
    found = []
    for own, raw in step.parameters.items():
        place: Place = ("steps", name, "parameters", own)
        if own not in target.names:
            if not is_faulty:
                wrong.append((place, unknown_name(own, target.names, f"parameter of {step.target},")))
            continue
        try:
            kind = scope.kind(raw, kinds.get(own))
        except ValueError as error:
            wrong.append((place, f"{error}."))
            continue
        found += [Parameter(own, kind)] if kind is not None else []
    for own in target.required:
        if own not in step.parameters:
            text = f"{step.target} needs the parameter {own}, which has no default; give it under `parameters`."
            wrong.append((("steps", name), text))
    return tuple(sorted(found, key=lambda each: target.names.index(each.name)))


def _start_problems(definition: Definition, parameters: tuple[Parameter, ...], declared: tuple[str, ...]) -> Wrong:
    """What is wrong with the values of runs that nobody starts by hand."""
    starts: list[tuple[Place, Mapping[str, Any]]] = []
    if definition.schedule is not None:
        starts.append((("schedule",), definition.schedule.parameters))
    starts += [(("triggers", number), each.parameters) for number, each in enumerate(definition.triggers)]
    kinds = {each.name: each.kind for each in parameters}
    for place, given in starts:
        for name, raw in given.items():
            if name not in declared:
                yield (*place, "parameters", name), unknown_name(name, declared)
                continue
            try:
                _Scope(OF_RUN).kind(raw, kinds.get(name))
            except ValueError as error:
                yield (*place, "parameters", name), f"{error}."
        yield from ((place, text) for text in _missing(parameters, given))


def _alert_problems(definition: Definition) -> Wrong:
    """What nobody would ever be told."""
    slow = None if definition.alerts is None else definition.alerts.slow_seconds
    if slow is not None and definition.timeout_seconds is not None and slow >= definition.timeout_seconds:
        yield ("alerts", "slow"), "no run lasts so long, since `timeout` ends it before; make it shorter."


def _missing(parameters: tuple[Parameter, ...], given: Mapping[str, Any]) -> Iterator[str]:
    for each in parameters:
        if each.default is REQUIRED and each.name not in given:
            yield f"the parameter {each.name} has no default, and these runs are not given one; write it under `parameters`."


def _partition_problems(definition: Definition, parameters: tuple[Parameter, ...], declared: tuple[str, ...]) -> Wrong:
    rule = definition.partitions
    if rule is None:
        return
    kinds = {each.name: each.kind for each in parameters}
    if rule.parameter not in declared:
        yield ("partitions", "parameter"), unknown_name(rule.parameter, declared)
        return
    fitting: list[Kind] = [Partition(rule.by), Str(), Moment() if rule.by == "hour" else Date()]
    if rule.parameter in kinds and kinds[rule.parameter] not in fitting:
        known = " or ".join(each.hint for each in fitting)
        yield ("partitions", "parameter"), f"{rule.parameter} is {kinds[rule.parameter].hint}; make it {known}."
    for text in _missing(parameters, {rule.parameter: None}):
        yield ("partitions",), text.replace("; write it under `parameters`", "; give it a default")


def _trigger_problems(definition: Definition, path: Path, project: Project) -> Wrong:
    waits = [each.model_copy(update={"parameters": {}}) for each in definition.triggers]
    for number, wait in enumerate(waits):
        if (first := waits.index(wait)) < number:
            text = f"triggers[{first}] waits for the same, and an event starts one run; take one out."
            yield ("triggers", number), text
    named = {n: each.pipeline.name for n, each in enumerate(definition.triggers) if each.pipeline is not None}
    if not named:
        return  # all files are looked at for those only that name one
    known = sorted({each.stem for folder in (project.jobs, path.parent) for each in folder.glob("*.yaml")})
    for number, name in named.items():
        if name not in known:
            yield ("triggers", number, "pipeline", "name"), unknown_name(name, known, "pipeline")
