"""What a worker knows beside its claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pipelines.definition import Project
from pipelines.engine.record.keeping import recording_keys
from pipelines.lineage.telling import Lineage
from pipelines.worker.roles.giving import Roles
from workbench.logs.rotation import LogLimits
from workbench.resolving import References
from workbench.sections import without_administrators, without_keys
from workbench.security.keyset.opening import Keys
from workbench.security.references import references_of
from workbench.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where things are."""

    home: Path  #: attempts have their folders below it
    project: Project
    environment: Mapping[str, str] = field(repr=False)  #: of kernels and child processes
    references: References  #: reads the secrets of steps
    lineage: Lineage | None = None  #: None tells nobody
    keys: Keys | None = field(default=None, repr=False)  #: that encrypt logs and outputs; None leaves them in clear
    logs: LogLimits = field(default_factory=LogLimits)  #: of each flow that is kept running
    roles: Roles = field(default_factory=Roles)  #: for steps that run as somebody; as it is made, nobody gets any

    @classmethod
    def of(cls, settings: Settings, project: Project, environment: Mapping[str, str]) -> Self:
        """Those of a process that runs steps.

        Args:
            settings: of the workbench.
            project: where notebooks and the like are.
            environment: of this process. Neither steps nor their secrets are given what leads to the root key, to
                channels of alerts, or to whoever makes roles in the warehouse.

        Raises:
            KeysetError: when the keyset cannot be opened.
        """
        given = without_administrators(without_keys(environment))
        return cls(
            home=settings.home,
            project=project,
            environment=given,
            references=references_of(settings, given),
            lineage=Lineage.wanted(settings),
            keys=recording_keys(settings),
            logs=settings.logs.limits,
            roles=Roles.of(settings),
        )
