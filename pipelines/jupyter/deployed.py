"""Which pipelines run a notebook: in the user's project, and where the scheduler looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.definition import Project, check_files
from pipelines.definition.document import read_document
from pipelines.jupyter.places import Place
from workbench.errors import DefinitionError


@dataclass(frozen=True)
class Known:
    """A pipeline with a step that runs the notebook."""

    name: str
    in_project: bool
    is_deployed: bool  #: whether it is among the files of the installed workbench, which the scheduler takes over
    is_same: bool  #: whether both, with all that their steps execute, are the same


def pipelines_of(place: Place, installed: Project) -> list[Known]:
    """The pipelines that run a notebook, by name.

    Args:
        place: of the notebook.
        installed: the project of the installed workbench; a notebook of it is the one with the same path.
    """
    own = _running(place.project, place.notebook)
    deployed = _running(installed, place.notebook)
    return [
        Known(
            name,
            in_project=name in own,
            is_deployed=name in deployed,
            is_same=name in own
            and name in deployed
            and _pins(own[name], place.project) == _pins(deployed[name], installed),
        )
        for name in sorted({*own, *deployed})
    ]


def _running(project: Project, notebook: str) -> dict[str, Path]:
    """The files of pipelines with a step that runs *notebook*, by name; those that are wrong elsewhere, too."""
    return {each.stem: each for each in project.jobs.glob("*.yaml") if notebook in _notebooks(each)}


def _notebooks(file: Path) -> list[Any]:
    try:
        steps = read_document(file).value.get("steps")
    except DefinitionError:
        return []
    found = steps.values() if isinstance(steps, dict) else ()
    return [each.get("notebook") for each in found if isinstance(each, dict)]


def _pins(file: Path, project: Project) -> object:
    """The hashes of the definition and of what it executes; of a wrong one something that equals nothing."""
    checked = check_files([file], project)
    return checked.pipelines[0].pins if checked.pipelines else object()
