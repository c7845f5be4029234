"""The process of a flow under its guard: it ends, with all that it started, when the worker does."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.definition import Project
from pipelines.definition.targets.flow import flow_folder
from pipelines.runner.flows.files import FlowFiles
from pipelines.runner.flows.rules import Ending
from workbench.runtime.process import GuardedProcess, Launch

STOP_SECONDS = 10.0  #: to commit what it has; then its tree is killed
UP_SECONDS = 3.0  #: that it has been at work, before it counts as running
PROGRAM = "pipelines.runner.flows.child"


class FlowProcess:
    """One process of one flow. `start` runs it; `release` tells it to end, from any thread, and waits for nothing.

    Args:
        files: of the flow.
        project: that has its file.
        environment: of the process; the settings are in it, or in the home folder.
    """

    def __init__(self, files: FlowFiles, project: Project, environment: Mapping[str, str]) -> None:
        self._files = files
        folder = flow_folder(project, files.name)
        roots = map(str, project.roots)
        self._process = GuardedProcess(
            Launch(
                argv=(sys.executable, "-P", "-m", PROGRAM, files.name, str(folder), str(files.told), *roots),
                log=files.log,
                lock=files.lock,
                folder=Path(),  # a file of settings may be where the worker was started
                environment={**environment, "WORKBENCH_HOME": str(files.home)},
                stop_seconds=STOP_SECONDS,
            )
        )
        self._started = self._begun = 0.0

    def start(self) -> None:
        """Run it.

        Raises:
            OSError: when the operating system refuses.
        """
        self._files.make_folders()
        self._files.told.unlink(missing_ok=True)
        self._started = time.monotonic()
        self._process.start()

    @property
    def is_up(self) -> bool:
        """Whether it has read its file and its settings, and has been at work for a while."""
        # To know its process id also serves the end: what a guard leaves that is killed is found by it.
        if self.pid is None:
            return False
        if not self._begun and self._told().get("begun"):
            self._begun = time.monotonic()
        return bool(self._begun) and time.monotonic() - self._begun > UP_SECONDS

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._process.poll() is not None

    @property
    def pid(self) -> int | None:
        """Process id of the flow itself, while it runs."""
        return self._process.pid

    def release(self) -> None:
        """Tell it to end: SIGTERM, and a kill of its tree after `STOP_SECONDS`. Returns at once."""
        self._process.release()

    def ending(self) -> Ending:
        """How it has ended."""
        # It has: this only sees to what a guard that was killed has left.
        self._process.stop()
        return Ending(self._process.poll(), time.monotonic() - self._started, str(self._told().get("reason", "")))

    def _told(self) -> Mapping[str, Any]:
        with suppress(OSError, ValueError):
            found = json.loads(self._files.told.read_bytes())
            return found if isinstance(found, dict) else {}
        return {}
