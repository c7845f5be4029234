"""What a user's server may see of this machine, and the command line that runs it so; wall.py builds the wall."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import workbench
from hub.spawning import os_users, wall
from workbench.errors import WorkbenchError
from workbench.resources import resource
from workbench.security.secrets import private_folder

TOOLS = (*os_users.TOOLS, "setpriv", "unshare", "sh")
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - those that are covered
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
NOBODY = 65534
PROGRAM = (".venv", "hub", "workbench", "pipelines", "notebooks", "spark_conf")  #: of a checkout: what users run
NAMESPACES = ("--mount", "--pid", "--ipc", "--fork", "--kill-child", "--propagation", "private")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What wall.py does, in its order."""

    groups: Sequence[str]  #: control groups to enter
    covers: Sequence[str]  #: folders that become empty
    binds: Sequence[tuple[str, str, bool]]  #: source, where it is shown, whether it can be written
    shared_memory: str
    processes: int  #: of the OS user; 0 is any number
    folder: str  #: working folder of the server
    drop: Sequence[str]  #: the command line that gives up every privilege


@dataclass(frozen=True)
class Wall:
    """The wall of one workbench: the same for all its users but for their own folders."""

    hidden: Path  #: WORKBENCH_HOME: keys, database, everybody's homes
    shown: tuple[Path, ...]  #: folders that every server reads: Python, the packages, jars, certificates

    def command(
        self, account: pwd.struct_passwd, temporary: Path, *, groups: Iterable[Path] = (), processes: int = 0
    ) -> list[str]:
        """What to put before a command line so that it runs as *account* behind the wall.

        Args:
            account: whose home is shown and can be written.
            temporary: a folder of theirs that becomes /tmp and /var/tmp.
            groups: control groups to enter.
            processes: how many the OS user may have; 0 is any number.
        """
        home = Path(account.pw_dir)
        places = sorted({place.resolve() for place in TEMPORARY if place.is_dir()})
        covers = {self.hidden, *(top for path in self.shown if (top := _closed(path)))}
        hidden = [*covers, *places]
        shown = [path for path in self.shown if any(path.is_relative_to(each) for each in hidden)]
        plan = Plan(
            groups=[str(group) for group in groups],
            covers=[str(each) for each in covers],
            binds=[
                *((str(path), str(path), False) for path in shown),
                (str(home), str(home), True),
                *((str(temporary), str(place), True) for place in places),
            ],
            shared_memory=str(SHARED_MEMORY.resolve()),
            processes=processes,
            folder=str(home),
            drop=_drop(account),
        )
        # Who starts the server is gone with `kill -9`: then unshare is killed, and with it the namespace.
        tied = (_tool("setpriv"), "--pdeathsig=KILL", "--", _tool("unshare"), *NAMESPACES, "--")
        return [*tied, sys.executable, "-I", "-S", wall.__file__, json.dumps(asdict(plan)), "--"]


def make_wall(hidden: Path, shown: Iterable[Path]) -> Wall:
    """The wall that shows Python, the workbench's packages and *shown*, and nothing of *hidden*."""
    python = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent}
    package = Path(workbench.__file__).parent
    beside = [package.parent / "pipelines", resource("notebooks"), resource("spark_conf")]
    wanted = {*python, package, *beside, *shown}
    found = {path.absolute() for path in wanted if path.exists()}
    return Wall(hidden.resolve(), tuple(sorted(found | {path.resolve() for path in found})))


def check(wall_: Wall) -> None:
    """Try the wall as a user whom nothing belongs to.

    Raises:
        WorkbenchError: when we are not root, a tool is missing, or Python does not run behind it.
    """
    if os.geteuid() != 0:
        raise WorkbenchError(
            "WORKBENCH_HUB_SPAWNER is local, which makes OS users, but the workbench does not run as root",
            remedy="Start it as root, or set WORKBENCH_HUB_SPAWNER to simple.",
        )
    if missing := [name for name in TOOLS if not shutil.which(name)]:
        raise WorkbenchError(
            f"WORKBENCH_HUB_SPAWNER is local, but {', '.join(missing)} is missing",
            remedy="Install the packages that have them (Debian: passwd, util-linux, libc-bin).",
        )
    with tempfile.TemporaryDirectory(dir=private_folder(wall_.hidden)) as folder:
        # It is their /tmp, too, and the workbench itself may lie below that.
        os.chown(folder, NOBODY, NOBODY)
        nobody = pwd.struct_passwd(("nobody", "x", NOBODY, NOBODY, "", folder, ""))
        # By a shell: setpriv finds a program with rights that the program itself has no more.
        python = ["sh", "-c", 'exec "$@"', "check", sys.executable, "-c", "import jupyterhub, workbench"]
        command = [*wall_.command(nobody, Path(folder)), *python]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={})
    if done.returncode:
        raise WorkbenchError(
            f"WORKBENCH_HUB_SPAWNER is local, but another OS user cannot run the workbench: {done.stderr.strip()[-500:]}",
            remedy=f"Allow mount and process namespaces here (not in an unprivileged container), and make the program readable to all, but not `.env`: `chmod -R a+rX {' '.join(PROGRAM)}` in the checkout.",
        )


def _drop(account: pwd.struct_passwd) -> list[str]:
    ids = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
    return [_tool("setpriv"), *ids, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"]


def _closed(path: Path) -> Path | None:
    """The uppermost folder on the way to *path* that not everybody may enter; None when all may."""
    return next((each for each in reversed([path, *path.parents]) if not each.stat().st_mode & stat.S_IXOTH), None)


def _tool(name: str) -> str:
    return shutil.which(name) or name
