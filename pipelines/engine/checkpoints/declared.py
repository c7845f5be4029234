"""The checkpoints of a notebook, and what stands before each: which cells a resumed attempt executes, and which it does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipelines.engine.record.notebook import is_executed, tags
from pipelines.engine.source import DECLARED, INJECTED
from pipelines.parameters.carried import read_carried
from workbench.errors import WorkbenchError

SETUP = "setup"  #: the tag of cells that are executed in a resumed attempt too, such as imports
AGAIN = frozenset({DECLARED, INJECTED, SETUP})


def declared_checkpoints(cells: Sequence[Mapping[str, Any]], marks: Collection[str]) -> dict[int, tuple[str, ...]]:
    """Which cells are checkpoints, counted from 0, and the variables that each carries.

    Args:
        cells: of the notebook as it is executed.
        marks: tags or ids of checkpoints.

    Raises:
        WorkbenchError: when one does not say what it carries.
    """
    found = {}
    for index, cell in enumerate(cells):
        if is_executed(cell) and not {*tags(cell), cell.get("id", "")}.isdisjoint(marks):
            try:
                found[index] = read_carried(cell["source"])
            except ValueError as error:
                raise WorkbenchError(f"cell {index + 1} of the notebook: {error}") from None
    return found


def carried_cells(cells: Sequence[Mapping[str, Any]], checkpoint: int) -> list[int]:
    """The cells up to the checkpoint, and with it, that an attempt which resumes there does not execute."""
    return [
        index
        for index, cell in enumerate(cells[: checkpoint + 1])
        if is_executed(cell) and (index == checkpoint or AGAIN.isdisjoint(tags(cell)))
    ]


def identity(
    cells: Sequence[Mapping[str, Any]], checkpoint: int, kernel: str, given: Mapping[str, str]
) -> dict[str, str]:
    """What has to be the same for a checkpoint to be good, by what it is called to people.

    Cells behind the checkpoint do not count: they run anew, so they may have been corrected.

    Args:
        cells: of the notebook as it is executed, with the injected one.
        checkpoint: its cell.
        kernel: the name of its kernel.
        given: what the caller knows beside it.
    """
    before = [each for each in cells[: checkpoint + 1] if INJECTED not in tags(each)]
    injected = [each["source"] for each in cells[: checkpoint + 1] if INJECTED in tags(each)]
    written = [
        [each["cell_type"], each["source"] if each["cell_type"] == "code" else "", sorted(tags(each))]
        for each in before
    ]
    return {
        **given,
        "the kernel": kernel,
        "a cell up to the checkpoint": _hash(written),
        "the values of parameters": _hash(injected),
    }


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
