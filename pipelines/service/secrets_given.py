"""Which secrets somebody may have a worker read: to run a pipeline is not to choose what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.definition import Pipeline
from pipelines.parameters import SecretReference
from pipelines.parameters.kinds import Secret
from pipelines.planning.secret_references import secret_references
from workbench.errors import ParametersRefused


def refuse_other_secrets(pipeline: Pipeline, given: Mapping[str, Any]) -> None:
    """Let values pass whose secrets are those that the file of the pipeline refers to itself.

    A worker reads a secret with its own rights, and gives it to a notebook that may show parts of it.

    Raises:
        ParametersRefused: when another one is referred to. What is no reference is left to who reads values.
    """
    known = {reference for _, reference in secret_references(pipeline)}
    found = {
        each.name: _reference(given.get(each.name)) for each in pipeline.parameters if isinstance(each.kind, Secret)
    }
    problems = [
        f"{name}: {reference} is not in the file of {pipeline.name}. Only its owner may have another secret read; "
        "leave the value out, or have the file refer to it."
        for name, reference in found.items()
        if reference is not None and reference not in known
    ]
    if problems:
        raise ParametersRefused(problems)


def _reference(value: object) -> SecretReference | None:
    try:
        return SecretReference.parse(value) if isinstance(value, str) else None
    except ValueError:
        return None
