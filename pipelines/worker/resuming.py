"""Which checkpoints a claimed notebook may go on from, and what becomes of them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.definition import Step
from pipelines.engine import Checkpoints, Earlier
from pipelines.engine.checkpoints.saved import forget
from pipelines.runner.assignment import Assignment, Result
from pipelines.runner.folders import attempt_folder, attempts_beside, log_of
from pipelines.store.claims.writing import read_unfinished
from pipelines.store.records import Claim, Event
from workbench.errors import KeysetError
from workbench.security.keyset.opening import Keys

if TYPE_CHECKING:
    from sqlalchemy import Connection

logger = logging.getLogger(__name__)


def with_checkpoints(
    connection: Connection, claim: Claim, assignment: Assignment, *, step: Step, before: Mapping[str, str], home: Path
) -> Assignment:
    """*assignment* with the earlier attempts that it may go on from, when it is a notebook that may have checkpoints.

    Args:
        connection: in a transaction.
        claim: of the step.
        assignment: what is run for it.
        step: as its definition has it.
        before: what stands for the result of each step that it comes after; with another, nothing is resumed.
        home: where attempts have their folders.
    """
    if assignment.kind != "notebook" or not step.checkpoints:
        return assignment
    folders = {
        number: attempt_folder(home, claim.run_id, claim.step, number, attempt_id)
        for number, attempt_id in read_unfinished(connection, claim)
    }
    earlier = tuple(Earlier(number=number, folder=folder, log=_log(folder)) for number, folder in folders.items())
    results = hashlib.sha256(json.dumps(dict(before), sort_keys=True).encode()).hexdigest()
    kept = Checkpoints(
        folder=assignment.folder,
        marks=step.checkpoints,
        given={"what the steps before have made": results},
        earlier=earlier,
    )
    return replace(assignment, checkpoints=kept)


def _log(folder: Path) -> Path:
    """The log of an attempt before, whether or not attempts were encrypted then."""
    encrypted = log_of(folder, encrypted=True)
    return encrypted if encrypted.exists() else log_of(folder, encrypted=False)


def resuming_events(result: Result) -> tuple[Event, ...]:
    """What the run is told of where an attempt began."""
    if result.resumed_from is not None:
        body: dict[str, Any] = {"attempt": result.resumed_from, "cell": result.resumed_cell}
        return (Event("resumed", body),)
    return (Event("not_resumed", {"reason": result.not_resumed}),) if result.not_resumed else ()


def forget_checkpoints(assignment: Assignment, keys: Keys | None) -> None:
    """Remove the checkpoints of a step that has succeeded: nobody goes on from them any more."""
    if assignment.checkpoints is not None:
        try:
            for folder in attempts_beside(assignment.folder):
                forget(folder, keys)
        except KeysetError as error:
            # `workbench keys rewrap` will name what is missing.
            logger.warning("%s", error)
