"""Each person's server reaches the warehouse as that person, when WORKBENCH_POLICIES_OWN_ROLES says so.

The hub has no driver and starts without a warehouse. When a server starts, or somebody is off-boarded,
a process of its own asks the warehouse; password and answer go through pipes that nobody else has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from jupyterhub.spawner import SpawnException

from workbench.errors import SettingsError, WorkbenchError
from workbench.settings import Settings

HANDOVER = (sys.executable, "-P", "-m", "workbench.warehouse.policies.handover")
SECONDS = 30.0
VALID_UNTIL = "warehouse_valid_until"  #: in the state of a spawner


def check(settings: Settings) -> None:
    """Raise SettingsError when people cannot have roles of their own here."""
    if not settings.policies.own_roles:
        return
    problems, dialect = [], settings.warehouse.dialect
    if settings.hub.spawner == "kubernetes":
        problem = "WORKBENCH_HUB_SPAWNER is kubernetes, where a password would stand in the pod's description."
        problems.append(f"{problem} Choose another spawner, or unset WORKBENCH_POLICIES_OWN_ROLES.")
    if dialect != "postgresql":
        problem = f"WORKBENCH_WAREHOUSE_DIALECT is {dialect}, where people have no roles of their own."
        problems.append(f"{problem} Unset WORKBENCH_POLICIES_OWN_ROLES.")
    elif Settings.load(embedded=False).warehouse.host and not settings.policies.admin_user:
        problem = "WORKBENCH_POLICIES_OWN_ROLES is set with DW_HOST, but nobody is named who may make roles."
        problems.append(f"{problem} Set WORKBENCH_POLICIES_ADMIN_USER and WORKBENCH_POLICIES_ADMIN_PASSWORD.")
    if problems:
        raise SettingsError(problems)


class KeepsRole:
    """For a spawner: until when the password of its server is good, also after a hub that was killed.

    JupyterHub stops what ended with that hub when it starts anew; the password then ends, too. Nothing is
    cleared with the rest of the state, which the spawner forgets before `close_role` is called.
    """

    warehouse_valid_until = ""

    def get_state(self) -> dict[str, Any]:
        """What JupyterHub keeps in its database while the server runs."""
        state: dict[str, Any] = super().get_state()  # type: ignore[misc]
        return {**state, VALID_UNTIL: self.warehouse_valid_until} if self.warehouse_valid_until else state

    def load_state(self, state: dict[str, Any]) -> None:
        """Called with it by a hub that has just started."""
        super().load_state(state)  # type: ignore[misc]
        self.warehouse_valid_until = str(state.get(VALID_UNTIL, ""))


async def set_role(settings: Settings, spawner: Any) -> str:
    """Put the owner's own role and its new password into the environment of the server that starts; returns the role.

    Raises:
        SpawnException: when there is none to be had; nobody's server starts with another's role instead.
    """
    groups = sorted(group.name for group in spawner.user.groups)
    try:
        answer = await ask(settings, {"do": "hand out", "name": spawner.user.name, "groups": groups})
    except WorkbenchError as error:
        spawner.log.warning("No role in the warehouse for %s: %s", spawner.user.name, error)
        raise SpawnException(
            f"You cannot be given a role in the warehouse: {error.message}. {error.remedy}",
            reason="warehouse_role",
            status_code=503,
        ) from error
    spawner.environment = {**spawner.environment, **answer["variables"]}
    spawner.warehouse_valid_until = answer["valid_until"]
    return str(answer["variables"]["DW_USER"])


async def close_role(settings: Settings, spawner: Any) -> None:
    """End the password of a server that has stopped, and connections that are left; a failure is logged.

    Whoever is shown out has their servers stopped, and so nothing to connect with either.
    """
    valid_until = getattr(spawner, "warehouse_valid_until", "")
    if not valid_until:
        return
    spawner.warehouse_valid_until = ""
    try:
        await ask(settings, {"do": "close", "name": spawner.user.name, "valid_until": valid_until})
    except WorkbenchError as error:
        spawner.log.warning("The warehouse password of %s is good until %s: %s", spawner.user.name, valid_until, error)


async def remove_role(settings: Settings, name: str) -> list[str]:
    """Take somebody's role away and end its connections; returns the steps.

    Raises:
        WorkbenchError: when the warehouse does not answer or refuses.
    """
    if not settings.policies.own_roles:
        return []
    steps: list[str] = (await ask(settings, {"do": "remove", "name": name}))["steps"]
    return steps


async def ask(settings: Settings, request: Mapping[str, object]) -> dict[str, Any]:
    """The answer of `workbench.warehouse.policies.handover`.

    Raises:
        WorkbenchError: when it is an error, or does not come in 30 s.
    """
    environment = {**os.environ, "WORKBENCH_HOME": str(settings.home)}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*HANDOVER, stdin=pipe, stdout=pipe, env=environment)
    try:
        told, _ = await asyncio.wait_for(process.communicate(json.dumps(request).encode()), SECONDS)
        answer = json.loads(told)
    except TimeoutError:
        raise WorkbenchError(
            f"the warehouse has not answered for {SECONDS:.0f} s", remedy="An administrator can look at logs/hub.log."
        ) from None
    except ValueError:
        raise WorkbenchError(
            f"the process that asks the warehouse ended with {process.returncode}",
            remedy="An administrator can look at logs/hub.log.",
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if "error" in answer:
        raise WorkbenchError(str(answer["error"]), remedy=str(answer["remedy"]))
    return dict(answer)
