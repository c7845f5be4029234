"""The processes of pipelines that `workbench up` runs: one scheduler, one worker, the service behind the hub, and the monitor."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.processes.life import Sign
from workbench.runtime.process import Contribution, Launch
from workbench.sections import ALERTS
from workbench.settings import Settings

NAMES = {
    "pipelines-scheduler": "pipelines.scheduler",
    "pipelines-worker": "pipelines.worker",
    "pipelines-service": "pipelines.service",
    "monitor": "pipelines.monitor",
}
TELLING = {"pipelines-scheduler", "monitor"}  #: those that send alerts


@dataclass(frozen=True, kw_only=True)
class _Process:
    """A process that gives signs of life."""

    name: str
    home: Path
    environment: Mapping[str, str] = field(repr=False)
    address: str = ""
    start_seconds: float = 120.0
    stop_seconds: float = 30.0  #: steps are given ten seconds to end by themselves, and their kernels as many

    @property
    def lock(self) -> Path:
        """Locked while the process runs."""
        return self.home / "run" / f"{self.name}.lock"

    def prepare(self) -> Launch:
        """Forget what an earlier process has said."""
        Sign(self.home, self.name).take_away()
        return Launch(
            argv=(sys.executable, "-P", "-m", NAMES[self.name]),
            environment={**self.environment, "WORKBENCH_HOME": str(self.home)},
            log=self.home / "logs" / f"{self.name}.log",
            lock=self.lock,
            folder=self.home,
            stop_seconds=self.stop_seconds,
        )

    def is_healthy(self) -> bool:
        """Whether it has given a sign a moment ago."""
        return Sign(self.home, self.name).is_fresh

    def obstacle(self) -> str:
        """What it says that keeps it from its work."""
        return Sign(self.home, self.name).obstacle

    def complete(self) -> None:
        """Nothing is left to do once it lives."""


def contribute(settings: Settings) -> Contribution:
    """What `workbench up` runs for pipelines. Called through the entry point group `workbench.components`."""
    if not settings.has_store:
        # There is no PostgreSQL for the store. Whoever runs a pipeline by hand is told so.
        return Contribution(components=())
    # Where the warehouse is they read from the home folder, since it may not run yet.
    environment = settings.as_environment()
    # Who runs notebooks is not told where alerts go: there are secrets in it.
    channels = {name: value for name, value in os.environ.items() if name.startswith(ALERTS)}
    processes = tuple(
        _Process(name=name, home=settings.home, environment={**environment, **(channels if name in TELLING else {})})
        for name in NAMES
    )
    return Contribution(components=(), later=processes)
