"""What the service works on, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipelines.definition import Pipeline, Project, find_pipeline
from pipelines.planning.pins import read_pins
from pipelines.planning.run_as import RunAsRule
from pipelines.planning.runs import Plan
from pipelines.runner.folders import runs_folder
from pipelines.store.database import Store
from workbench.security.audit import AuditLog
from workbench.security.keyset.opening import Keys


@dataclass(frozen=True, kw_only=True)
class Site:
    """Store, files and audit log; shared by threads."""

    store: Store
    project: Project
    home: Path
    run_as: RunAsRule = field(default_factory=RunAsRule)  #: which pipelines may be run without `run_as`
    keys: Keys | None = field(default=None, repr=False)  #: that decrypt what workers of this machine have encrypted

    @cached_property
    def audit(self) -> AuditLog:
        """The same that the hub writes."""
        return AuditLog.of(self.home)

    @property
    def outputs(self) -> Path:
        """Where workers of this machine leave what runs put out."""
        return runs_folder(self.home)

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline as its files are now.

        Raises:
            WorkbenchError: when there is no such file.
            DefinitionError: with everything that is wrong.
        """
        return find_pipeline(self.project, name)

    def plan(self, name: str) -> Plan:
        """The same, for making runs; raises the same."""
        return Plan(self.pipeline(name), read_pins(self.project), self.run_as)
