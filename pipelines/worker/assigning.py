"""From a claim to what the runner is told: files are found, secrets are read, hashes are made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.definition import Definition, Project, Step
from pipelines.definition.targets.function import read_function
from pipelines.definition.targets.notebook import read_notebook
from pipelines.engine import JobLimits
from pipelines.planning.bindings import read_bindings
from pipelines.planning.pins import installed_hash
from pipelines.runner.assignment import Assignment
from pipelines.runner.folders import attempt_folder
from pipelines.store.records import Claim
from pipelines.worker.modules import TooMuch, modules_hash
from workbench.errors import WorkbenchError
from workbench.logs.context import as_variable
from workbench.resolving import References


def defined(claim: Claim, kept: Mapping[str, Any]) -> Definition:
    """The definition that the run of *claim* pins, as the store keeps it.

    Raises:
        WorkbenchError: when it is of another version of the workbench.
    """
    try:
        return Definition.model_validate(kept)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise WorkbenchError(
            f"the definition of run {claim.run_id} is of another version of the workbench: {wrong}",
            remedy="Start workers of that version, or make a new run with `workbench pipelines run`.",
        ) from None


def assign(claim: Claim, definition: Definition, *, home: Path, project: Project, references: References) -> Assignment:
    """What is run for *claim*.

    Args:
        claim: as the store gave it.
        definition: the one that its run pins.
        home: where attempts have their folders.
        project: where notebooks and the like are.
        references: reads secrets.

    A step that comes after no other also looks for the secrets of all: nothing of a run executes when one is not there.

    Raises:
        WorkbenchError: when a file or a secret is not there, or the step is of another version of the workbench.
    """
    step = definition.steps[claim.step]
    try:
        bindings = read_bindings(claim.parameters["steps"][claim.step])
        given = {} if step.after else claim.parameters["steps"]
        others = {name: read_bindings(kept) for name, kept in given.items() if name != claim.step}
        file = None if step.kind == "function" else project.find(_path(step))
    except (KeyError, ValueError) as error:
        raise WorkbenchError(
            f"step {claim.step} of run {claim.run_id}: {error}", remedy="Make a new run with `workbench pipelines run`."
        ) from None
    for name, needed in others.items():
        for reference in needed.secrets.values():
            references.read(reference, remedy=f"Step {name} needs it: set it where workers run, and repair the run.")
    return Assignment(
        kind=step.kind,
        target=step.target,
        roots=project.roots,
        file=file,
        folder=attempt_folder(home, claim.run_id, claim.step, claim.number, claim.attempt_id),
        bindings=bindings,
        secrets={
            name: references.read(each, remedy="Set it where the worker runs, and repair the run.")
            for name, each in bindings.secrets.items()
        },
        environment={"WORKBENCH_HOME": str(home), **as_variable(**log_fields(claim))},
        limits=JobLimits(run_seconds=step.timeout_seconds, cell_seconds=step.cell_timeout_seconds),
    )


def log_fields(claim: Claim) -> dict[str, object]:
    """What lines of this claim belong to."""
    return {
        "run": claim.run_id,
        "attempt": claim.number,
        "pipeline": claim.pipeline,
        "step": claim.step,
        "user": claim.run_as,
    }


def content_hash(assignment: Assignment, project: Project) -> str:
    """The sha256 of what executes, as it is now; comparable with the one that the run pins.

    Raises:
        WorkbenchError: when there is no such notebook or function any more, or nobody here may read it.
    """
    try:
        if assignment.file is None:
            return read_function(assignment.target, project.import_folders).sha256
        if assignment.kind == "notebook":
            return read_notebook(assignment.file).sha256
        return hashlib.sha256(assignment.file.read_text(encoding="utf-8").encode()).hexdigest()
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{error}", remedy="Correct the file, and repair the run.") from None


def code_hash(assignment: Assignment, content: str) -> str | None:
    """The sha256 of all code that decides the result of a step, as it is now; None when there is more than is looked at.

    That is also which packages are installed here: they may be others than when the run was made.

    Args:
        assignment: what is run.
        content: of `content_hash`.
    """
    parts = [content, installed_hash()]
    if assignment.kind != "sql":  # it imports nothing
        try:
            parts.append(modules_hash(assignment.roots))
        except TooMuch:
            return None
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def step_hash(assignment: Assignment, claim: Claim, code: str, before: Mapping[str, str]) -> str:
    """Of everything that decides the result of a step.

    Args:
        assignment: what is run with which values; of secrets the place counts, and not what is there.
        claim: whose run has the values.
        code: of `code_hash`.
        before: what stands for the result of each step that it comes after.
    """
    # What somebody sees is nobody else's result.
    acting = [claim.run_as] if claim.run_as else []
    parts = [assignment.kind, assignment.target, code, claim.parameters["steps"][claim.step]]
    return hashlib.sha256(json.dumps([*parts, *acting, dict(before)], sort_keys=True).encode()).hexdigest()


def results_before(steps: list[dict[str, Any]], step: Step, run_id: int) -> dict[str, str]:
    """For each step that *step* comes after: its hash, or a name that no other run has, when it has none."""
    return {
        each["name"]: each["hash"] or f"run {run_id}, attempt {each['attempts']}"
        for each in steps
        if each["name"] in step.after
    }


def _path(step: Step) -> str:
    return f"pipelines/flows/{step.target}.yaml" if step.kind == "flow" else step.target
