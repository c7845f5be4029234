"""OS users, one for each hub user: made, locked and unlocked by the system's own tools; none is ever taken over.

A user that we made is known by its comment and its home folder. Their password is locked and
their shell refuses; nobody logs in with them but through the hub.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from workbench.errors import WorkbenchError

HUB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
SLUG_LENGTH = 22  # with prefix, dash and digest 32 characters: the most that Linux allows
FIRST_UID, LAST_UID = 20000, 59999
PATIENCE_SECONDS = 5.0
PART = ".{}.part"  #: an archive that is not whole yet
TOOLS = ("useradd", "usermod", "getent")
_MAKING = threading.Lock()  # two servers of one user may start at once


class OsUserError(WorkbenchError):
    """An OS user could not be made, or is somebody else's."""


def os_name(hub_name: str, home: Path) -> str:
    """The OS name for the hub user whose home is *home*: `wb-gh-octo-1f3a9c`.

    The digest is of the home: a demo account, or another workbench, never gets the same OS user.
    """
    if not HUB_NAME.fullmatch(hub_name):
        raise OsUserError(
            f"{hub_name!r} is no name for an OS user",
            remedy="Names are up to 32 lower-case letters, digits and dashes.",
        )
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:6]
    return f"wb-{hub_name[:SLUG_LENGTH]}-{digest}"


def find(hub_name: str, home: Path) -> pwd.struct_passwd | None:
    """The OS user of a hub user; None when there is none yet.

    Raises:
        OsUserError: when the name belongs to somebody whom we did not make.
    """
    name = os_name(hub_name, home)
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return None
    if account.pw_gecos != _comment(hub_name) or account.pw_dir != str(home) or account.pw_uid < FIRST_UID:
        raise OsUserError(
            f"there is an OS user {name} (uid {account.pw_uid}) that the workbench did not make",
            remedy=f"Rename or remove it: `userdel {name}`.",
        )
    return account


def ensure(hub_name: str, home: Path) -> pwd.struct_passwd:
    """The OS user of a hub user with a private home; both are made when they are not there.

    Raises:
        OsUserError: when the name or the home folder belongs to somebody else, or useradd fails.
    """
    account = find(hub_name, home)
    if account is None:
        _add(hub_name, home)
        account = pwd.getpwnam(os_name(hub_name, home))
    home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not home.exists():
        home.mkdir(mode=0o700)
        os.chown(home, account.pw_uid, account.pw_gid, follow_symlinks=False)
    # The folder above is ours alone, so nobody exchanges the home between these lines.
    owner = home.lstat().st_uid
    if home.is_symlink() or owner != account.pw_uid:
        raise OsUserError(
            f"{home} belongs to uid {owner}, not to {account.pw_name}",
            remedy=f"Look through it, then `chown --recursive --no-dereference {account.pw_name}: {home}`.",
        )
    home.chmod(0o700)
    return account


def is_locked(name: str) -> bool:
    """Whether `lock` was called for the OS user."""
    fields = _run("getent", "shadow", name).split(":")
    return fields[7] == "1"


def ensure_unlocked(hub_name: str, home: Path) -> pwd.struct_passwd:
    """The OS user of somebody who may start a server, made when there is none.

    Raises:
        OsUserError: as `ensure`, and when an administrator has locked it.
    """
    with _MAKING:
        account = ensure(hub_name, home)
    if is_locked(account.pw_name):
        raise OsUserError(f"the OS user {account.pw_name} is locked", remedy="Ask an administrator to unlock it.")
    return account


def lock(name: str) -> None:
    """Let nobody start anything as this OS user. May be repeated."""
    _run("usermod", "--lock", "--expiredate", "1", name)


def unlock(name: str) -> None:
    """Take `lock` back; the password stays locked, as it was when the user was made. May be repeated."""
    _run("usermod", "--expiredate", "", name)


def end_processes(name: str, seconds: float = PATIENCE_SECONDS) -> int:
    """End every process of an OS user and return how many there were; those that linger are killed.

    Raises:
        OsUserError: when some are left after twice *seconds*.
    """
    uid = pwd.getpwnam(name).pw_uid
    if uid < FIRST_UID:
        raise OsUserError(f"{name} has uid {uid}, which the workbench did not make", remedy="Nothing was ended.")
    ended = _signal_all(uid, signal.SIGTERM)
    kill_at, deadline = time.monotonic() + seconds, time.monotonic() + 2 * seconds
    while any(_processes(uid)):
        if time.monotonic() > deadline:
            raise OsUserError(f"processes of {name} are left", remedy=f"See `ps -u {uid}`.")
        if time.monotonic() > kill_at:
            ended |= _signal_all(uid, signal.SIGKILL)
        time.sleep(0.02)
    return len(ended)


def archive_home(home: Path, archive: Path) -> None:
    """Write *home* to *archive* (`.tar.gz`, mode 0600), then remove it; nothing is removed before the archive is on disk.

    Symlinks are kept as symlinks. Files of other owners are kept too, so only root may read the
    archive: a user may have linked to one. Whoever owns the home must have no processes any more.
    """
    if archive.exists():
        raise OsUserError(f"{archive} is there already", remedy="Name another file.")
    archive.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = archive.with_name(PART.format(archive.name))
    part.unlink(missing_ok=True)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz") as tar:
                tar.add(home, arcname=home.name)
            file.flush()
            os.fsync(file.fileno())
        part.rename(archive)
        _sync(archive.parent)
    finally:
        part.unlink(missing_ok=True)
    try:
        shutil.rmtree(home)
    except OSError as error:
        raise OsUserError(
            f"{home} is archived to {archive}, but could not be removed: {error}",
            remedy=f"See what keeps it, and remove it: `rm --recursive {home}`.",
        ) from error


def _add(hub_name: str, home: Path) -> None:
    name = os_name(hub_name, home)
    numbers = (f"UID_MIN={FIRST_UID}", f"UID_MAX={LAST_UID}", f"GID_MIN={FIRST_UID}", f"GID_MAX={LAST_UID}")
    # No ranges of further ids: nothing here may use them.
    keys = [part for key in (*numbers, "SUB_UID_COUNT=0", "SUB_GID_COUNT=0") for part in ("--key", key)]
    shell = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin") or "/bin/false"
    named = ("--comment", _comment(hub_name), "--home-dir", str(home), "--shell", shell)
    _run("useradd", "--user-group", "--no-create-home", *keys, *named, name)


def _comment(hub_name: str) -> str:
    return f"workbench {hub_name}"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise OsUserError(
            f"{' '.join(command)} failed: {done.stderr.strip() or done.returncode}",
            remedy="Run it by hand as root, and start the server again.",
        )
    return done.stdout


def _signal_all(uid: int, number: int) -> set[int]:
    found = set()
    for process in _processes(uid):
        try:
            process.send_signal(number)
        except psutil.Error:
            continue
        found.add(process.pid)
    return found


def _processes(uid: int) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if uid in process.uids() and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
