"""Whether a server may start now: by the role of its owner, the servers that run, and the memory that is left."""

from __future__ import annotations

from typing import Any

import psutil
from jupyterhub import orm
from jupyterhub.spawner import SpawnException

from hub.roles import role_of
from hub.spawning.limits import bytes_of
from workbench.sections import HubSettings


def admit(hub: HubSettings, spawner: Any) -> None:
    """Let the server of *spawner* start, or say why not and what to do.

    Raises:
        SpawnException: JupyterHub shows its message to the user.
    """
    refuse_viewers(role_of(spawner.user))
    refuse_one_too_many(hub.server_limit, others_running(spawner))
    refuse_without_memory(bytes_of(hub.memory_reserve), psutil.virtual_memory().available)


def refuse_viewers(role: str) -> None:
    """Viewers look at what others publish."""
    if role == "viewer":
        raise SpawnException(
            "You are a viewer, and viewers start no server. Ask an administrator for the role analyst.",
            reason="viewer",
            status_code=403,
        )


def refuse_one_too_many(limit: int, running: int) -> None:
    """*limit* 0 is any number."""
    if limit and running >= limit:
        raise SpawnException(
            f"{running} servers run, and {limit} may. Stop one of yours that you do not need, or try again later; "
            "an administrator can stop idle ones or raise WORKBENCH_HUB_SERVER_LIMIT.",
            reason="server_limit",
            status_code=429,
        )


def refuse_without_memory(reserve: int, available: int) -> None:
    """A server that starts without memory takes those that run with it."""
    if available < reserve:
        raise SpawnException(
            f"The machine has {available // 2**20} MB of memory left, and {reserve // 2**20} MB have to be kept "
            "(WORKBENCH_HUB_MEMORY_RESERVE). Stop kernels or servers that you do not need, or try again later.",
            reason="memory",
            status_code=503,
        )


def others_running(spawner: Any) -> int:
    """Servers of the hub that run or start, without this one."""
    found = spawner.user.db.query(orm.Spawner).filter(orm.Spawner.server != None)  # noqa: E711 - SQLAlchemy's IS NOT NULL
    return sum(1 for each in found if each.id != spawner.orm_spawner.id)
