"""What a worker knows beside its claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.definition import Project
from pipelines.lineage.telling import Lineage
from pipelines.worker.roles.giving import Roles
from workbench.references import References
from workbench.security.keyset.opening import Keys


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where things are."""

    home: Path  #: attempts have their folders below it
    project: Project
    environment: Mapping[str, str] = field(repr=False)  #: of kernels and child processes
    references: References  #: reads the secrets of steps
    lineage: Lineage | None = None  #: None tells nobody
    keys: Keys | None = field(default=None, repr=False)  #: that encrypt logs and outputs; None leaves them in clear
    roles: Roles = field(default_factory=Roles)  #: for steps that run as somebody; as it is made, nobody gets any
