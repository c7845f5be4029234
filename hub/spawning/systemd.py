"""Servers on this machine, each a unit of systemd under an OS user of its own.

The same OS users and homes as with the spawner `local`; systemd builds the wall and keeps the limits.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jupyterhub.spawner import SpawnException
from systemdspawner import SystemdSpawner  # type: ignore[import-untyped]
from traitlets import Any as AnyValue

from hub.roles import role_of
from hub.spawning import os_users
from hub.spawning.admission import admit
from hub.spawning.environment import (
    SERVER,
    own_environment,
    separate_environment,
    share_jars,
    users_folder,
)
from hub.spawning.limits import ServerLimits, set_limits
from hub.spawning.listening import wait_for_listener
from hub.spawning.local import BEGIN
from hub.warehouse_roles import KeepsRole
from workbench.errors import SettingsError
from workbench.resources import resource
from workbench.settings import Settings

BOOTED = Path("/run/systemd/system")  #: sd_booted(3)
CLOSED = (Path("/home"), Path("/root"), Path("/run/user"))  #: what ProtectHome hides
HUB_UNIT = "workbench.service"
SLICE = "workbench-users.slice"
LISTEN_SECONDS = 60.0
POLL_INTERVAL_SECONDS = 5

# Of every unit. SystemdSpawner adds NoNewPrivileges, PrivateTmp and PrivateDevices by settings of its own.
PROPERTIES: Mapping[str, str] = {
    "UMask": "0077",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "PrivateMounts": "yes",
    "PrivateIPC": "yes",
    "KeyringMode": "private",
    "RemoveIPC": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "SystemCallErrorNumber": "EPERM",
    # Netlink tells programs the addresses of this machine.
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    # Clouds give a machine's credentials to whoever asks there.
    "IPAddressDeny": "link-local",
    "LimitCORE": "0",
    "Delegate": "no",
    # The ports of the hub change when it starts anew.
    "PartOf": HUB_UNIT,
    "KillMode": "mixed",
    "TimeoutStopSec": "30",
}


def set_units(c: Any, settings: Settings) -> None:
    """A unit for each user's server; `clusters.set_systemd` calls it.

    Raises:
        SettingsError: when systemd does not run here, we are not root, or users could not read the program.
    """
    if problems := _problems(settings):
        raise SettingsError(problems)
    c.JupyterHub.spawner_class = UnitSpawner
    section = c.UnitSpawner
    section.settings = settings
    files = ["{HOME}", str(shared_folder(settings) / "jars"), str(resource("notebooks"))]
    section.cmd = ["/bin/sh", "-c", BEGIN, "begin", *files, *SERVER]
    section.unit_name_template = "workbench-user-{USERID}"
    section.slice = SLICE
    section.default_shell = shutil.which("bash") or "/bin/sh"
    section.isolate_tmp = True
    section.isolate_devices = True
    section.disable_user_sudo = True
    section.pre_spawn_hook = partial(prepare, settings)
    section.post_stop_hook = None
    # The route of a server that has ended leads to whoever takes its port next: it is not left for long.
    section.poll_interval = POLL_INTERVAL_SECONDS


def prepare(settings: Settings, spawner: Any) -> None:
    """Called before each start: whether it may, what it may take, and the way to the data as it is now."""
    admit(settings.hub, spawner)
    spawner.limits = set_limits(settings.hub, role_of(spawner.user), spawner)
    spark = settings.hub.spark_environment(role_of(spawner.user))
    spawner.environment = {**separate_environment(Settings.load(), shared_folder(settings)), **spark}
    share_jars(settings, shared_folder(settings))


def shared_folder(settings: Settings) -> Path:
    """What every user reads: certificates and jars."""
    return settings.home.resolve() / "shared"


def unit_properties(home: Path, settings: Settings, limits: ServerLimits) -> dict[str, str]:
    """Properties of the unit of the user whose home is *home*: of WORKBENCH_HOME they see that and what is shared."""
    own = {
        "TemporaryFileSystem": f"{settings.home.resolve()}:ro,mode=0755",
        "BindPaths": str(home),
        "BindReadOnlyPaths": f"-{shared_folder(settings)}",
    }
    if limits.memory_bytes:
        own["MemorySwapMax"] = "0"
    if limits.processes:
        own["TasksMax"] = str(limits.processes)
    return {**PROPERTIES, **own}


class UnitSpawner(KeepsRole, SystemdSpawner):  # type: ignore[misc]
    """A transient unit with an OS user that the workbench made; root asks systemd to start it."""

    settings = AnyValue(config=True, help="The settings of this workbench.")
    limits = AnyValue(ServerLimits(), help="What the server with all it starts may take; set before each start.")

    @property
    def home(self) -> Path:
        """The user's home."""
        settings: Settings = self.settings
        return settings.home.resolve() / users_folder(settings).name / str(self.user.name)

    def _expand_user_vars(self, template: str) -> str:
        """Only our own words: an argument or a value may have braces that mean something else."""
        return template.replace("{USERID}", str(self.user.id)).replace("{HOME}", str(self.home))

    def get_env(self) -> dict[str, str]:
        """What depends on the OS user."""
        return {**super().get_env(), **own_environment(self.user.name, self.home)}

    async def start(self) -> tuple[str, int]:
        """Start the unit and return where it listens, once it is really the user who does."""
        try:
            account = await asyncio.to_thread(os_users.ensure_unlocked, self.user.name, self.home)
        except os_users.OsUserError as error:
            raise SpawnException(str(error), reason="os_user", status_code=500) from error
        self.username_template = account.pw_name
        self.unit_extra_properties = unit_properties(self.home, self.settings, self.limits)
        await super().start()
        journal = f"the journal: journalctl -u {self.unit_name}"
        await wait_for_listener(self, account.pw_uid, seconds=LISTEN_SECONDS, log=journal)
        return ("127.0.0.1", self.port)


def _problems(settings: Settings) -> list[str]:
    found = []
    if os.geteuid() != 0:
        found.append("WORKBENCH_HUB_SPAWNER is systemd, but the hub does not run as root. Start it as root.")
    if not BOOTED.is_dir():
        found.append("WORKBENCH_HUB_SPAWNER is systemd, but systemd does not run here. Set it to local.")
    hidden = (*CLOSED, settings.home.resolve())
    programs = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), resource("notebooks").resolve()}
    found += [
        f"WORKBENCH_HUB_SPAWNER is systemd, but users cannot see {program}. Install the workbench elsewhere, for example in /opt/workbench."
        for program in sorted(programs)
        if any(program.is_relative_to(each) for each in hidden)
    ]
    return found
