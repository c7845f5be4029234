"""Gives one attempt a role of the warehouse, and takes it back when the attempt has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from pipelines.planning.run_as import RunAsRule
from pipelines.runner.assignment import Assignment
from pipelines.store.records import Claim
from workbench.errors import WorkbenchError
from workbench.resources import resource
from workbench.security.audit import Action
from workbench.security.audit.commands import recording
from workbench.security.policies.reading import read_policies
from workbench.settings import Settings
from workbench.warehouse.policies.administration import Administration
from workbench.warehouse.policies.people import Credentials, drop
from workbench.warehouse.policies.runs import hand_out_to_run

logger = logging.getLogger(__name__)

PASSWORD = "DW_PASSWORD"  # noqa: S105 - the name of a variable
SPARE = timedelta(minutes=5)  #: for what comes before the first cell, and after the last


@dataclass(frozen=True)
class Roles:
    """Who may run as whom, and how they get there; opens no connection yet."""

    rule: RunAsRule = field(default_factory=RunAsRule)
    settings: Settings | None = field(default=None, repr=False)  #: None gives nobody a role

    @classmethod
    def of(cls, settings: Settings) -> Roles:
        """Those of *settings*."""
        return cls(RunAsRule.of(settings), settings)

    @asynccontextmanager
    async def acting(self, claim: Claim, assignment: Assignment) -> AsyncIterator[Assignment]:
        """*assignment* with the variables of a role that is there while the context is open.

        Raises:
            WorkbenchError: when the claim's pipeline may not run as its `run_as`, or there is no such role.
        """
        giving = asyncio.ensure_future(asyncio.to_thread(self._give, claim, assignment))
        try:
            found, administration = await asyncio.shield(giving)
            variables = found.warehouse(administration.warehouse).as_environment()
            yield replace(
                assignment,
                environment={**assignment.environment, **variables},
                hidden={**assignment.hidden, PASSWORD: found.password},
            )
        finally:
            # Whoever is cancelled meanwhile has a role, too.
            found, administration = await giving
            await asyncio.to_thread(self._take_back, claim, found, administration)

    def _give(self, claim: Claim, assignment: Assignment) -> tuple[Credentials, Administration]:
        identity, settings = claim.run_as or "", self.settings
        self.rule.demand(claim.pipeline, identity)
        assert settings is not None, "a rule that lets somebody pass is of settings"
        is_embedded = not Settings.load(embedded=False).warehouse.host
        administration = Administration.of(settings, is_embedded=is_embedded)
        policies = read_policies(settings.policies.file or resource("pipelines") / "policies.yaml")
        longest = timedelta(hours=settings.policies.password_hours)
        seconds = assignment.limits.run_seconds
        lifetime = longest if seconds is None else min(longest, timedelta(seconds=seconds) + SPARE)
        with recording(settings.home, Action.CREDENTIALS_GIVEN, identity) as details:
            details.update(_about(claim))
            found = hand_out_to_run(administration, policies, identity, attempt=claim.attempt_id, lifetime=lifetime)
            details.update(role=found.user, valid_until=found.valid_until.isoformat())
        return found, administration

    def _take_back(self, claim: Claim, found: Credentials, administration: Administration) -> None:
        assert self.settings is not None, "it was given"
        try:
            with recording(self.settings.home, Action.CREDENTIALS_REMOVED, claim.run_as or "") as details:
                details.update(_about(claim), role=found.user)
                details["connections"] = drop(administration, found.user) or 0
        except WorkbenchError as error:
            # The next run drops it when its password has ended.
            logger.warning("the role %s opens connections until %s: %s", found.user, found.valid_until, error.message)
        except Exception:
            # Nor does what nobody has thought of undo what the step has done.
            logger.exception("the role %s opens connections until %s", found.user, found.valid_until)


def _about(claim: Claim) -> dict[str, object]:
    return {"pipeline": claim.pipeline, "run": claim.run_id, "step": claim.step, "attempt": claim.number}
