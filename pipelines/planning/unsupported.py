"""What the format of pipelines has and this version does not do: refused by name, never passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.definition import Pipeline, Problem
from workbench.errors import WorkbenchError


def unsupported(pipeline: Pipeline) -> Iterator[tuple[str, str, str]]:
    """Each field that asks for what is not there: where it is, what it asks for, and the remedy."""
    definition = pipeline.definition
    flows = [name for name, step in definition.steps.items() if step.kind == "flow"]
    if definition.run_as and flows:
        remedy = "Leave run_as out, or give the flow a pipeline of its own."
        yield (
            "run_as",
            f"run_as is {definition.run_as}, who only reads, but step {flows[0]} is a flow, which writes",
            remedy,
        )


def unsupported_problems(pipelines: Iterable[Pipeline], files: Iterable[Path]) -> Iterator[Problem]:
    """The same as problems of *files*, which have the names of their pipelines."""
    paths = {each.stem: each for each in files}
    for pipeline in pipelines:
        for place, text, remedy in unsupported(pipeline):
            yield Problem(paths[pipeline.name], 1, place, f"{text}. {remedy}")


def refuse_unsupported(pipeline: Pipeline) -> None:
    """Let a pipeline pass that can be run as its file says.

    Raises:
        WorkbenchError: when it cannot.
    """
    for _, text, remedy in unsupported(pipeline):
        raise WorkbenchError(f"{pipeline.name}: {text}", remedy=remedy)
