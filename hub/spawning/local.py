"""Servers on this machine, each under an OS user of its own and behind a wall."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner, SpawnException
from jupyterhub.utils import maybe_future, random_port
from traitlets import Any as AnyValue
from traitlets import Unicode

from hub.spawning import os_users
from hub.spawning.environment import COPY_LESSONS, own_environment
from hub.spawning.limits import ServerLimits, make_groups, remove_groups, safe_name
from hub.spawning.listening import wait_for_listener
from hub.warehouse_roles import KeepsRole
from workbench.resources import resource
from workbench.security.secrets import private_folder

LISTEN_SECONDS = 80.0

# Runs as the user: whatever they have made of their home, it is only theirs.
BEGIN = f"""\
home=$1 lessons=$3
mkdir -p -m 700 "$WORKBENCH_HOME" "$JUPYTER_RUNTIME_DIR"
[ -e "$WORKBENCH_HOME/jars" ] || [ ! -d "$2" ] || ln -s "$2" "$WORKBENCH_HOME/jars"
{COPY_LESSONS}shift 3
exec "$@"
"""


class SameUserSpawner(KeepsRole, SimpleLocalProcessSpawner):  # type: ignore[misc]
    """Starts each server as the hub's own OS user."""


class OsUserSpawner(KeepsRole, LocalProcessSpawner):  # type: ignore[misc]
    """Starts each server as an OS user of its own; root starts it, and keeps nothing in the user's home."""

    wall = AnyValue(config=True, help="The Wall of this workbench.")
    users_folder = Unicode(config=True, help="Folder of the homes; nobody but root may write it.")
    work_folder = Unicode(config=True, help="Folder of temporary files and logs; nobody but root may enter it.")
    jars_folder = Unicode(config=True, help="Jars that everybody reads.")
    limits = AnyValue(ServerLimits(), help="What the server with all it starts may take; set before each start.")

    port: int  #: on loopback
    groups: Sequence[Path] = ()  #: control groups of the running server

    @property
    def home(self) -> Path:
        """The user's home, outside and behind the wall."""
        return Path(self.users_folder, self.user.name)

    @property
    def temporary(self) -> Path:
        """What is /tmp behind the wall: of this server alone, made anew for each start."""
        return Path(self.work_folder) / "tmp" / safe_name(self.user.name, self.name)

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """What depends on the OS user."""
        return {**env, **own_environment(self.user.name, self.home), "SHELL": shutil.which("bash") or "/bin/sh"}

    async def start(self) -> tuple[str, int]:
        """Start the server and return where it listens, once it is really the user who does."""
        try:
            account = await asyncio.to_thread(self._prepare)
        except os_users.OsUserError as error:
            raise SpawnException(str(error), reason="os_user", status_code=500) from error
        self.port = self.port or random_port()
        self._launch(account)
        await wait_for_listener(self, account.pw_uid, seconds=LISTEN_SECONDS, log=f"{self.work_folder}/logs")
        return ("127.0.0.1", self.port)

    async def run_post_stop_hook(self) -> None:
        """Remove what was made for the server outside the home, however it ended."""
        try:
            await asyncio.to_thread(remove_groups, self.groups)
            await asyncio.to_thread(shutil.rmtree, self.temporary, ignore_errors=True)
        finally:
            await maybe_future(super().run_post_stop_hook())

    def load_state(self, state: dict[str, Any]) -> None:
        """Forget the process of an earlier hub: it ended with that hub, and its number may be somebody else's."""
        super().load_state(state)
        self.pid = 0

    async def _signal(self, sig: int) -> bool:
        """The request to end is for process 1 behind the wall, which hands it on; `unshare` itself ignores it."""
        try:
            children = psutil.Process(self.pid).children() if sig else []
        except psutil.NoSuchProcess:
            return False
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(sig)
        return True if children else bool(await super()._signal(sig))

    def _launch(self, account: pwd.struct_passwd) -> None:
        # In the hub's first thread: the server ends with the thread that starts it.
        self.groups = make_groups(safe_name(account.pw_name, self.name), self.limits)
        wall = self.wall.command(account, self.temporary, groups=self.groups, processes=self.limits.processes)
        begin = ["sh", "-c", BEGIN, "begin", str(self.home), self.jars_folder, str(resource("notebooks"))]
        command = [*wall, *begin, *self.cmd, *self.get_args()]
        self.log.info("Starting the server of %s as %s", self._log_name, account.pw_name)
        with self._open_log() as log:
            self.proc = Popen(
                command, env=self.get_env(), stdout=log, stderr=log, start_new_session=True, cwd=self.work_folder
            )
        self.pid = self.proc.pid

    def _prepare(self) -> pwd.struct_passwd:
        account = os_users.ensure_unlocked(self.user.name, self.home)
        shutil.rmtree(self.temporary, ignore_errors=True)
        private_folder(self.temporary.parent)
        self.temporary.mkdir(mode=0o700)
        os.chown(self.temporary, account.pw_uid, account.pw_gid)
        return account

    def _open_log(self) -> Any:
        # Not the hub's own: whoever has it open for writing can truncate it.
        folder = private_folder(Path(self.work_folder) / "logs")
        path = folder / f"{safe_name(self.user.name, self.name)}.log"
        # Appended to: whoever bounds it takes its beginning away while the server writes.
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), "wb")
