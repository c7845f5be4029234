"""Which secrets somebody may have a worker read: to run a pipeline is not to choose what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pipelines.definition import Pipeline
from pipelines.parameters import SecretReference
from pipelines.parameters.kinds import Secret
from pipelines.planning.secret_references import secret_references
from workbench.errors import ParametersRefused


def refuse_other_secrets(pipeline: Pipeline, *given: Mapping[str, Any] | None) -> None:
    """Let values pass whose secrets are those that the file of the pipeline refers to itself.

    A worker reads a secret with its own rights, and gives it to a notebook that may show parts of it.

    Raises:
        ParametersRefused: when another one is referred to. What is no reference is left to who reads values.
    """
    known = {reference for _, reference in secret_references(pipeline)}
    names = [each.name for each in pipeline.parameters if isinstance(each.kind, Secret)]
    problems = [
        f"{name}: {found} is not in the file of {pipeline.name}. Only its owner may have another secret read; "
        "leave the value out, or have the file refer to it."
        for values in given
        for name in names
        for found in _references((values or {}).get(name))
        if found not in known
    ]
    if problems:
        raise ParametersRefused(problems)


def _references(value: object) -> Sequence[SecretReference]:
    with suppress(ValueError):
        return [SecretReference.parse(value)] if isinstance(value, str) else []
    return []
