"""As whom a pipeline may run: only as those whom the deployment has named for it, and as `DW_USER` while it lets it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.definition import Definition, Pipeline, Problem
from workbench.errors import WorkbenchError
from workbench.settings import Settings

ANY = "*"


@dataclass(frozen=True)
class RunAsRule:
    """What the settings say of `run_as`; as it is made, nobody may.

    That somebody is the `owner` is not enough: a file says who that is, and whoever writes it could name anybody.
    """

    own_roles: bool = False
    dialect: str = "postgresql"
    allowed: frozenset[tuple[str, str]] = frozenset()  #: pipeline, or `*`, and identity
    required: bool = False  #: of every pipeline
    exempt: frozenset[str] = frozenset()  #: pipelines of which it is not required

    @classmethod
    def of(cls, settings: Settings) -> RunAsRule:
        """That of *settings*."""
        pairs = (each.partition("=") for each in settings.pipelines.run_as)
        allowed = frozenset((pipeline.strip(), identity.strip()) for pipeline, _, identity in pairs)
        return cls(
            settings.policies.own_roles,
            settings.warehouse.dialect,
            allowed,
            settings.pipelines.require_run_as,
            frozenset(settings.pipelines.without_run_as),
        )

    def refusal(self, pipeline: str, identity: str) -> tuple[str, str] | None:
        """What happened and the remedy, when *pipeline* may not run as *identity*; empty is as `DW_USER`."""
        if not identity:
            return self.lack(pipeline)
        asks = f"run_as is {identity}"
        if not self.own_roles:
            return (
                f"{asks}, but nobody has a role of their own in the warehouse",
                "Set WORKBENCH_POLICIES_OWN_ROLES once policies are applied, or leave run_as out.",
            )
        if self.dialect != "postgresql":
            return (
                f"{asks}, but WORKBENCH_WAREHOUSE_DIALECT is {self.dialect}, where the workbench makes no roles",
                "Leave run_as out.",
            )
        if not self.allowed & {(pipeline, identity), (ANY, identity)}:
            return (
                f"{asks}, as whom {pipeline} may not run",
                f"Add {pipeline}={identity} to WORKBENCH_PIPELINES_RUN_AS where workers run, or leave run_as out.",
            )
        return None

    def lack(self, pipeline: str) -> tuple[str, str] | None:
        """What happened and the remedy, when *pipeline* may not run without `run_as`."""
        if not self.required or pipeline in self.exempt:
            return None
        return (
            "it has no run_as, and would connect to the warehouse as DW_USER",
            f"Add run_as, or {pipeline} to WORKBENCH_PIPELINES_WITHOUT_RUN_AS where schedulers and workers run.",
        )

    def demand(self, pipeline: str, identity: str) -> None:
        """Let *pipeline* pass when it may run as *identity*; empty is as `DW_USER`.

        Raises:
            WorkbenchError: when it may not.
        """
        if refused := self.refusal(pipeline, identity):
            raise WorkbenchError(f"{pipeline}: {refused[0]}", remedy=refused[1])

    def demand_some(self, definition: Definition) -> None:
        """Let a pipeline pass that has `run_as`, or needs none; whether it may run so is for the worker to say.

        Raises:
            WorkbenchError: when it has none and needs it.
        """
        if not definition.run_as:
            self.demand(definition.name, "")


def run_as_problems(pipelines: Iterable[Pipeline], files: Iterable[Path]) -> Iterator[Problem]:
    """Each of *pipelines* that may not run as its file says; *files* have the names of their pipelines.

    Raises:
        SettingsError: when the settings are wrong.
    """
    paths = {each.stem: each for each in files}
    rule = RunAsRule.of(Settings.load())
    for pipeline in pipelines:
        if refused := rule.refusal(pipeline.name, pipeline.definition.run_as):
            yield Problem(paths[pipeline.name], 1, "run_as", " ".join((f"{refused[0]}.", refused[1])))
