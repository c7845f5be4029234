"""Reads the files of pipelines; all that is wrong with them is told at once, each with its line."""

from __future__ import annotations

import copy
import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pipelines.definition.checks import check
from pipelines.definition.document import Document, Place, Problem, parse_document, read_document
from pipelines.definition.model import Definition
from pipelines.definition.plan import Pipeline
from pipelines.definition.rules import NAME
from pipelines.definition.targets import Project
from workbench.errors import DefinitionError, WorkbenchError

PASSES = 4  #: fields, what lacks them, and what holds that
WORDS = {
    "missing": "is missing",
    "int_type": "is {value}, which is no whole number",
    "int_from_float": "is {value}, which is no whole number",
    "string_type": "is {value}, which is no text; write it in quotes",
    "bool_type": "is {value}, which is neither true nor false",
    "tuple_type": "is {value}, which is no list; write [{value}]",
    "dict_type": "is {value}, which is no mapping",
    "model_type": "is {value}, which is no mapping",
    "model_attributes_type": "is {value}, which is no mapping",
    "string_pattern_mismatch": "is {value}, which does not fit {pattern}",
    "literal_error": "is {value}; known are {expected}",
    "enum": "is {value}; known are {expected}",
    "too_short": "is empty",
}


@dataclass(frozen=True)
class Checked:
    """What became of some files."""

    pipelines: tuple[Pipeline, ...]
    problems: tuple[Problem, ...]


def find_pipeline(project: Project, name: str) -> Pipeline:
    """The pipeline of pipelines/jobs/NAME.yaml, checked.

    Raises:
        WorkbenchError: when there is no such file.
        DefinitionError: with everything that is wrong.
    """
    known = {each.stem: each for each in sorted(project.jobs.glob("*.yaml")) if each.is_file()}
    # Looked up and not joined: a name may be too long for a path, or lead out of the folder.
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise WorkbenchError(
            f"there is no pipeline {name!r}{f'; did you mean {near[0]}?' if near else ''} {project.jobs} has {', '.join(known) or 'none'}",
            remedy="Name one of them, or write its file; docs/pipelines.md has the format.",
        )
    return read_pipeline(known[name], project)


def read_pipeline(path: Path, project: Project) -> Pipeline:
    """The pipeline of a file, checked.

    Raises:
        DefinitionError: with everything that is wrong.
    """
    checked = check_files([path], project)
    if checked.problems:
        raise DefinitionError(checked.problems)
    return checked.pipelines[0]


def check_files(paths: Iterable[Path], project: Project) -> Checked:
    """Check a number of files; nothing of theirs is run."""
    files: dict[str, Path] = {}
    pipelines: list[Pipeline] = []
    problems: list[Problem] = []
    for path in paths:
        pipeline, found = _check_file(path, project)
        problems += sorted(found, key=lambda each: each.line)
        if pipeline is not None:
            pipelines.append(pipeline)
            files[pipeline.name] = path
    if circle := _circle(pipelines):
        text = f"pipelines start each other in a circle, {' → '.join(circle)}; take one trigger away."
        problems.append(read_document(files[circle[0]]).problem(("triggers",), text))
    return Checked(tuple(each for each in pipelines if each.name not in circle), tuple(problems))


def check_text(name: str, text: str, project: Project) -> Checked:
    """Check *text* as the file of the pipeline *name*, whether or not there is one; nothing is written."""
    path = project.jobs / f"{name}.yaml"
    try:
        pipeline, found = _check_document(parse_document(path, text), name, project)
    except DefinitionError as error:
        return Checked((), tuple(error.problems))
    return Checked((pipeline,) if pipeline else (), tuple(sorted(found, key=lambda each: each.line)))


def _circle(pipelines: Iterable[Pipeline]) -> list[str]:
    """The names of pipelines that start each other for ever; empty when there are none."""
    starts = {
        each.name: {trigger.pipeline.name for trigger in each.definition.triggers if trigger.pipeline is not None}
        for each in pipelines
    }
    try:
        TopologicalSorter(starts).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _check_file(path: Path, project: Project) -> tuple[Pipeline | None, list[Problem]]:
    try:
        return _check_document(read_document(path), path.stem, project)
    except DefinitionError as error:
        return None, list(error.problems)


def _check_document(document: Document, name: str, project: Project) -> tuple[Pipeline | None, list[Problem]]:
    if "name" in document.value:
        return None, [document.problem(("name",), "there is no such field: a pipeline has the name of its file.")]
    definition, wrong = _definition({**document.value, "name": name})
    problems = [document.problem(*each) for each in wrong]
    if definition is None:
        return None, problems
    pipeline, found = check(definition, document, project)
    return (None if problems else pipeline), problems + found


def _definition(fields: Mapping[str, Any]) -> tuple[Definition | None, list[tuple[Place, str]]]:
    """What the fields define and all that is wrong with them; wrong ones are left out, as long as something is left."""
    told: list[tuple[Place, str]] = []
    for _ in range(PASSES):
        try:
            return Definition.model_validate(fields), list(dict.fromkeys(told))
        except ValidationError as error:
            wrong = error.errors(include_url=False)
        # What is missing at a second look was left out at the first.
        told += [_told(each) for each in wrong if not told or each["type"] not in {"missing", "too_short"}]
        fields = _without(fields, [each["loc"] for each in wrong])
    return None, list(dict.fromkeys(told))


def _without(fields: Mapping[str, Any], places: Iterable[Place]) -> dict[str, Any]:
    """A copy that lacks the fields at *places*; of a list with a wrong item, and of a parameter, all."""
    left = copy.deepcopy(dict(fields))
    for place in places:
        around: Any = left
        names = list(takewhile(lambda each: isinstance(each, str) and each != "[key]", place))
        if place[:1] == ("parameters",):
            del names[2:]  # what is left of a declaration would say something else
        for number, name in enumerate(names):
            inner = around.get(name)
            if number == len(names) - 1 or not isinstance(inner, dict) or names[number + 1] not in inner:
                around.pop(name, None)
                break
            around = inner
    return left


def _told(error: Mapping[str, Any]) -> tuple[Place, str]:
    place: Place = tuple(each for each in error["loc"] if each != "[key]")
    kind, context = str(error["type"]), error.get("ctx") or {}
    if kind == "extra_forbidden":
        return place, _unknown_field(place)
    if kind == "value_error":
        return place, f"{context['error']}."
    # What is no reference to a secret may be the secret.
    value = "what was given" if place and place[-1] == "secret" else reprlib.repr(error["input"])
    if context.get("pattern") == NAME:
        return place, f"{value} is no name; take at most 50 small letters and digits, with - and _ between them."
    told = WORDS.get(kind)
    if told is None:
        return place, f"is {value}: {error['msg']}."
    return place, f"{told.format(value=value, pattern=context.get('pattern'), expected=context.get('expected'))}."


def _unknown_field(place: Place) -> str:
    known = sorted(set(_fields(Definition, place[:-1])) - {"name"})
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"there is no such field{meant} Known are {', '.join(known)}."


def _fields(model: type[BaseModel], place: Place) -> Iterator[str]:
    """The names of the fields at a place, as files have them."""
    aliases = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    if not place:
        yield from aliases
        return
    annotation = aliases.get(str(place[0]))
    inner = _model_in(annotation)
    if inner is not None:
        # The name of a step or the number of a trigger lies between, and is no field.
        yield from _fields(inner, place[2:] if get_origin(annotation) in {dict, tuple} else place[1:])


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each)) is not None), None)
