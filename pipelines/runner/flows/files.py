"""Where a flow that is kept running has its files, and what its log says."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.definition import Project
from workbench.errors import NoSuchRun, WorkbenchError
from workbench.security.secrets import private_folder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MOST_BYTES = 8 * 1024 * 1024  #: of a log, and of the one before it
TAIL_BYTES = 64 * 1024
TAIL_LINES = 15


@dataclass(frozen=True)
class FlowFiles:
    """The files of one flow on this machine; only its worker writes them."""

    home: Path
    name: str

    @property
    def log(self) -> Path:
        """What its processes print, one after the other."""
        return self.home / "logs" / "flows" / f"{self.name}.log"

    @property
    def older_log(self) -> Path:
        """What was there before the log became too long."""
        return self.log.with_suffix(".log.1")

    @property
    def lock(self) -> Path:
        """Held while a process of it lives on this machine."""
        return self.home / "run" / "flows" / f"{self.name}.lock"

    @property
    def told(self) -> Path:
        """What the process says to its worker."""
        return self.home / "run" / "flows" / f"{self.name}.json"

    def make_folders(self) -> None:
        """Make them, for nobody else to look into."""
        private_folder(self.log.parent)
        private_folder(self.lock.parent)

    def cut_log(self, most_bytes: int = MOST_BYTES) -> None:
        """Begin the log anew when it is longer; what is written in that moment may be left out."""
        try:
            if self.log.stat().st_size <= most_bytes:
                return
        except FileNotFoundError:
            return
        fresh = self.older_log.with_suffix(".new")
        # On a full disk the older log stays as it is: to bound this one comes first.
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
            with self.log.open("rb") as source, os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as to:
                source.seek(-most_bytes, os.SEEK_END)
                shutil.copyfileobj(source, to)
            fresh.replace(self.older_log)
        # Its process appends: it goes on at the new end.
        os.truncate(self.log, 0)

    def last_lines(self, lines: int = TAIL_LINES) -> str:
        """The end of the log; empty when there is none on this machine."""
        try:
            with self.log.open("rb") as file:
                file.seek(-min(TAIL_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
                return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""


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
