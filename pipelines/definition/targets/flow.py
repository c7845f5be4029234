"""Files of flows: which there are, and whether one has changed. What is in them is for `workbench.ingestion` to read."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pipelines.definition.targets.project import Project
from workbench.errors import NoSuchRun, WorkbenchError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  #: of those that are kept running: it is part of names of files


def flow_folder(project: Project, name: str) -> Path:
    """The folder that has the file of the flow; that of the project when none has."""
    folders = [root / "pipelines" / "flows" for root in project.roots]
    return next((each for each in folders if (each / f"{name}.yaml").is_file()), folders[0])


def flow_hash(project: Project, name: str) -> str | None:
    """SHA-256 of the flow's file; None when there is none."""
    try:
        return hashlib.sha256((flow_folder(project, name) / f"{name}.yaml").read_bytes()).hexdigest()
    except OSError:
        return None


def is_flow_name(name: str) -> bool:
    """Whether a flow of this name may be kept running: it is part of the names of files."""
    return NAME.fullmatch(name) is not None


def check_flow_name(project: Project, name: str) -> None:
    """Let names of flows pass that have a file.

    Raises:
        NoSuchRun: when there is no such file; it lists those that are there.
        WorkbenchError: when the name has characters that no flow may have which is kept running.
    """
    if name not in project.flows:
        known = ", ".join(project.flows) or "none"
        raise NoSuchRun(
            f"there is no flow {name!r}; flows are {known}", remedy="Name one of them, or write its file: pipelines/flows/."
        )  # fmt: skip
    if not is_flow_name(name):
        raise WorkbenchError(
            f"the flow {name!r} cannot be kept running: its name is no {NAME.pattern}", remedy="Rename its file."
        )
