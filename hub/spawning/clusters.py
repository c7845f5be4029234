"""The spawners whose packages are extras: what they need is loaded only where they are chosen."""

from __future__ import annotations

import importlib.util
from typing import Any

from workbench.errors import SettingsError
from workbench.settings import Settings


def set_systemd(c: Any, settings: Settings) -> None:
    """Each user's server as a unit of systemd, under an OS user of its own.

    Raises:
        SettingsError: when this machine cannot have it.
    """
    require("systemdspawner", "systemd")
    from hub.spawning.systemd import set_units

    set_units(c, settings)


def set_kubernetes(c: Any, settings: Settings) -> None:
    """Each user's server as a pod with a volume. Call after what sets the addresses of the hub.

    Raises:
        SettingsError: when a pod would look for something that is only on the hub's machine.
    """
    require("kubespawner", "kubernetes")
    from hub.spawning.kubernetes import set_pods

    set_pods(c, settings)


def require(module: str, extra: str) -> None:
    """Raise SettingsError, with the command that installs it, when *module* of the extra *extra* is not there."""
    if importlib.util.find_spec(module) is None:
        problem = f"WORKBENCH_HUB_SPAWNER is {extra}, but {module} is not installed."
        raise SettingsError([f"{problem} Run `make setup`, or install the extra `{extra}`."])
