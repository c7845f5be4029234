"""Which kind of server each user gets, what it may take, and who gets none."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hub.roles import role_of
from hub.spawning.admission import admit
from hub.spawning.environment import (
    FIRST_NOTEBOOK,
    SERVER,
    kernel_environment,
    prepare_home,
    readable_folder,
    remove_runtime,
    separate_environment,
    share_jars,
    users_folder,
)
from hub.spawning.limits import set_limits
from hub.spawning.local import OsUserSpawner, SameUserSpawner
from hub.spawning.walls import check, make_wall
from workbench.errors import WorkbenchError
from workbench.security.secrets import private_folder
from workbench.settings import Settings

# What a user's server keeps of the hub's environment: paths, language, trust, and where clusters are.
KEPT_VARIABLES = [
    *("PATH", "LANG", "LC_ALL", "TZ", "JAVA_HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HADOOP_CONF_DIR", "YARN_CONF_DIR", "KUBECONFIG"),
]
# The route of a server that has ended leads to whoever takes its port next: it is not left for long.
POLL_SECONDS = 5
SEPARATING = {"local", "systemd"}  #: spawners that keep people apart on this machine
ENV_FILE = Path(".env")  #: what `Settings.load` reads beside the environment


def set_spawner(c: Any, settings: Settings) -> None:
    """JupyterLab for each user, started in the way that WORKBENCH_HUB_SPAWNER names.

    Raises:
        WorkbenchError: when that way does not work on this machine.
    """
    # Of a JupyterHub that is started by hand: that of `workbench up` works in another folder.
    check_env_file(settings)
    c.Spawner.cmd = list(SERVER)
    c.Spawner.default_url = f"/lab/tree/{FIRST_NOTEBOOK}"
    c.Spawner.env_keep = KEPT_VARIABLES
    # What somebody planted in a home must not configure the server; Lab's own settings stay.
    c.Spawner.disable_user_config = True
    c.Spawner.pre_spawn_hook = partial(prepare, settings)
    # The first start of JupyterLab on a busy two-core machine.
    c.Spawner.http_timeout = 90
    c.Spawner.start_timeout = 90
    _setter(settings)(c, settings)


def check_env_file(settings: Settings) -> None:
    """See that the secrets of the settings are not for everybody: neither a wall nor a unit hides the file.

    It is looked for in the working folder, as `Settings.load` does.

    Raises:
        WorkbenchError: when others than its owner may read or change it.
    """
    if settings.hub.spawner not in SEPARATING or not ENV_FILE.is_file():
        return
    if (mode := stat.S_IMODE(ENV_FILE.stat().st_mode)) & 0o077:
        raise WorkbenchError(
            f"{ENV_FILE.absolute()} has the mode {mode:04o}: people's servers could read the secrets in it",
            remedy=f"chmod 600 {ENV_FILE.absolute()}",
        )


def set_simple(c: Any, settings: Settings) -> None:
    """All servers as the hub's own OS user, with folders under WORKBENCH_HOME: no wall between them."""
    c.JupyterHub.spawner_class = SameUserSpawner
    c.SimpleLocalProcessSpawner.home_dir_template = str(users_folder(settings) / "{username}")
    c.Spawner.args = ["--allow-root"] if os.geteuid() == 0 else []
    c.Spawner.environment = kernel_environment(settings)
    c.Spawner.pre_spawn_hook = partial(prepare, settings, then=prepare_home)
    c.Spawner.post_stop_hook = remove_runtime


def set_local(c: Any, settings: Settings) -> None:
    """Each user's server as an OS user of its own, behind a wall.

    Raises:
        WorkbenchError: when this machine cannot have it.
    """
    home = private_folder(settings.home).resolve()
    shared = readable_folder(home / "shared")
    share_jars(settings, shared)
    kept = [Path(value) for name in KEPT_VARIABLES if (value := os.environ.get(name, "")).startswith("/")]
    wall = make_wall(home, [shared, *(path for path in kept if path.is_dir())])
    check(wall)
    c.JupyterHub.spawner_class = OsUserSpawner
    c.OsUserSpawner.wall = wall
    c.OsUserSpawner.users_folder = str(users_folder(settings))
    c.OsUserSpawner.work_folder = str(private_folder(home / "servers"))
    c.OsUserSpawner.jars_folder = str(shared / "jars")
    c.OsUserSpawner.poll_interval = POLL_SECONDS
    c.Spawner.environment = separate_environment(settings, shared)


def prepare(settings: Settings, spawner: Any, then: Callable[[Any], None] = lambda _: None) -> None:
    """Before each start: may it, and what may it take?

    Raises:
        SpawnException: when it may not start, with what to do.
    """
    admit(settings.hub, spawner)
    limits = set_limits(settings.hub, role_of(spawner.user), spawner)
    if isinstance(spawner, OsUserSpawner):
        spawner.limits = limits
    then(spawner)


def _setter(settings: Settings) -> Callable[[Any, Settings], None]:
    if settings.hub.spawner in {"simple", "local"}:
        return {"simple": set_simple, "local": set_local}[settings.hub.spawner]
    # Their packages are needed only where they are used.
    from hub.spawning import clusters

    return {"systemd": clusters.set_systemd, "kubernetes": clusters.set_kubernetes}[settings.hub.spawner]
