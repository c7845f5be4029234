"""Secrets that pipelines refer to and that are not there, found before a run needs one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.definition import Pipeline, Problem
from pipelines.definition.document import Place, read_document
from pipelines.planning.secret_references import secret_references
from workbench.errors import SecretUnavailable
from workbench.references import SecretReference
from workbench.resolving import References

REMEDY = "Set it where workers are started, or correct the reference."


def references_in(pipeline: Pipeline) -> Iterator[tuple[Place, SecretReference]]:
    """Each reference, those of webhooks included, and where."""
    yield from secret_references(pipeline)
    for number, trigger in enumerate(pipeline.definition.triggers):
        if trigger.webhook is not None:
            yield ("triggers", number, "webhook", "secret"), SecretReference.parse(trigger.webhook.secret)


def secret_problems(pipelines: Iterable[Pipeline], files: Iterable[Path], references: References) -> Iterator[Problem]:
    """Each reference of *pipelines* to a secret that *references* cannot read; *files* have the names of their pipelines.

    Vault is asked for those that are in it. No secret is in a problem.
    """
    paths = {each.stem: each for each in files}
    for pipeline in pipelines:
        document = read_document(paths[pipeline.name])
        for place, reference in references_in(pipeline):
            try:
                references.read(reference, remedy=REMEDY)
            except SecretUnavailable as error:
                yield document.problem(place, f"{error.message}. {error.remedy or REMEDY}")
