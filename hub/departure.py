"""What is left of somebody on this machine when they have gone: processes, an OS user, a home."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

from hub.spawning import os_users
from hub.spawning.environment import users_folder
from workbench.errors import WorkbenchError
from workbench.security.secrets import private_folder
from workbench.settings import Settings

END_SECONDS = 5.0


def close_account(settings: Settings, name: str) -> list[str]:
    """End what still runs of somebody on this machine, and lock their OS user; returns the steps. Takes seconds.

    Raises:
        WorkbenchError: when processes are left.
    """
    if settings.hub.spawner == "kubernetes":
        return []
    home = users_folder(settings) / name
    steps = []
    # With OS users too: a server may be left from a time when the spawner was `simple`.
    ended = end_processes(settings.home, name)
    account = None if settings.hub.spawner == "simple" else os_users.find(name, home)
    if account:
        if not os_users.is_locked(account.pw_name):
            os_users.lock(account.pw_name)
            steps.append(f"OS user {account.pw_name} locked")
        ended += os_users.end_processes(account.pw_name)
    if ended:
        steps.append(f"{ended} processes ended")
    return steps


def archive_account(settings: Settings, name: str) -> list[str]:
    """Archive the home of somebody whose account is closed; returns the steps. May take hours; one at a time.

    Raises:
        WorkbenchError: when processes are left, or the home cannot be archived; it is then untouched. Also when
            it is archived and cannot be removed.
    """
    if settings.hub.spawner == "kubernetes":
        return ["the volume of the home is left in the cluster"]
    home = users_folder(settings) / name
    if not home.is_dir():
        return []
    # It may have waited for hours, and nothing may write while a home is archived and removed.
    return [*close_account(settings, name), f"home archived to {archive_home(settings.home, home)}"]


def readmit_account(settings: Settings, name: str) -> list[str]:
    """Take back what keeps an OS user from starting anything; the archived home stays where it is."""
    if settings.hub.spawner in {"simple", "kubernetes"}:
        return []
    account = os_users.find(name, users_folder(settings) / name)
    if account is None or not os_users.is_locked(account.pw_name):
        return []
    os_users.unlock(account.pw_name)
    return [f"OS user {account.pw_name} unlocked"]


def archive_home(workbench_home: Path, home: Path) -> Path:
    """Move a home into `archive/NAME-DATE.tar.gz` of mode 0600. One at a time."""
    archive = private_folder(archive_folder(workbench_home)) / f"{home.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz"
    remove_unfinished_archives(workbench_home)
    try:
        os_users.archive_home(home, archive)
    except OSError as error:
        raise WorkbenchError(
            f"{home} could not be archived: {error}",
            remedy="Make room on the disk and do it again, or leave the home where it is with --keep-home.",
        ) from error
    return archive


def archive_folder(workbench_home: Path) -> Path:
    """Where the homes are archived of those who have gone."""
    return workbench_home / "archive"


def remove_unfinished_archives(workbench_home: Path) -> None:
    """Remove what a hub that was killed has left of an archive; the home is whole then. None may be in the making."""
    for part in archive_folder(workbench_home).glob(os_users.PART.format("*")):
        with suppress(OSError):
            part.unlink()


def end_processes(workbench_home: Path, name: str) -> int:
    """End what runs with the hub's own OS user for somebody, even if it left their server's session; returns how many.

    They are known by the environment that their server gave them: it says whose they are, and of which workbench.
    """
    marks = {"JUPYTERHUB_USER": name, "WORKBENCH_HOME": str(workbench_home)}
    found = [process for process in psutil.process_iter() if _has(process, marks)]
    _signal(found, signal.SIGTERM)
    if left := _wait(found):
        _signal(left, signal.SIGKILL)
        left = _wait(left)
    if left:
        numbers = ", ".join(str(process.pid) for process in left)
        raise WorkbenchError(f"processes of {name} are left: {numbers}", remedy="See `ps` why they do not end.")
    return len(found)


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def _wait(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are left after some seconds; one that has ended and whose parent does not ask is none."""
    deadline = time.monotonic() + END_SECONDS
    while (processes := [process for process in processes if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return processes


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _has(process: psutil.Process, marks: dict[str, str]) -> bool:
    try:
        found = process.environ()
    except (psutil.Error, OSError):
        return False
    return all(found.get(name) == value for name, value in marks.items())
