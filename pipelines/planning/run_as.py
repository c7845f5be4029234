"""As whom a pipeline may run: only as those whom the deployment has named for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.definition import Pipeline, Problem
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

    @classmethod
    def of(cls, settings: Settings) -> RunAsRule:
        """That of *settings*."""
        pairs = (each.partition("=") for each in settings.pipelines.run_as)
        allowed = frozenset((pipeline.strip(), identity.strip()) for pipeline, _, identity in pairs)
        return cls(settings.policies.own_roles, settings.warehouse.dialect, allowed)

    def refusal(self, pipeline: str, identity: str) -> tuple[str, str] | None:
        """What happened and the remedy, when *pipeline* may not run as *identity*."""
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

    def demand(self, pipeline: str, identity: str) -> None:
        """Let *pipeline* pass when it may run as *identity*.

        Raises:
            WorkbenchError: when it may not.
        """
        if refused := self.refusal(pipeline, identity):
            raise WorkbenchError(f"{pipeline}: {refused[0]}", remedy=refused[1])


def run_as_problems(pipelines: Iterable[Pipeline], files: Iterable[Path]) -> Iterator[Problem]:
    """Each of *pipelines* that may not run as its file says; *files* have the names of their pipelines.

    Raises:
        SettingsError: when a pipeline has `run_as` and the settings are wrong.
    """
    paths = {each.stem: each for each in files}
    asking = [each for each in pipelines if each.definition.run_as]
    rule = RunAsRule.of(Settings.load()) if asking else RunAsRule()
    for pipeline in asking:
        if refused := rule.refusal(pipeline.name, pipeline.definition.run_as):
            yield Problem(paths[pipeline.name], 1, "run_as", " ".join((f"{refused[0]}.", refused[1])))
