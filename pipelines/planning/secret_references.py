"""Which secrets the file of a pipeline refers to: their places, never what is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.definition import Pipeline
from pipelines.definition.document import Place
from pipelines.definition.plan import constant, reference
from pipelines.parameters import REQUIRED, Parameter, SecretReference
from pipelines.parameters.kinds import Secret


def secret_references(pipeline: Pipeline) -> Iterator[tuple[Place, SecretReference]]:
    """Each reference, and where it stands."""
    definition = pipeline.definition
    for each in pipeline.parameters:
        if isinstance(each.kind, Secret) and each.default is not REQUIRED:
            yield ("parameters", each.name), each.kind.read(each.default)
    if definition.schedule is not None:
        yield from _given(pipeline.parameters, definition.schedule.parameters, ("schedule", "parameters"))
    for name, planned in pipeline.steps.items():
        yield from _given(planned.parameters, planned.step.parameters, ("steps", name, "parameters"))


def _given(
    parameters: tuple[Parameter, ...], given: dict[str, Any], place: Place
) -> Iterator[tuple[Place, SecretReference]]:
    for each in parameters:
        if isinstance(each.kind, Secret) and each.name in given and reference(given[each.name]) is None:
            yield (*place, each.name), each.kind.read(constant(given[each.name]))
