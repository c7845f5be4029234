"""Puts one user's server behind a wall: namespaces of its own, its own files alone, an OS user of its own.

A script of the standard library alone, started as root by its path under `unshare`, as process
1 of a new process namespace. It binds the few folders that the server needs, covers the rest,
starts the server without privileges, reaps what the server leaves behind, and hands on the
request to end. When it ends, the kernel ends everything in the namespace.

    wall.py PLAN -- COMMAND…        PLAN is JSON; `Plan` in walls.py has its fields
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
OPEN_FILES = 65536


def main(argv: list[str]) -> int:
    """Build the wall, run the command behind it, and return its exit code."""
    plan, _, *command = argv
    return run(json.loads(plan), command)


def run(plan: dict[str, Any], command: list[str]) -> int:
    """Do what *plan* says, step by step; a step that fails ends everything before the server has begun."""
    for group in plan["groups"]:
        Path(group, "cgroup.procs").write_text("0", encoding="ascii")
    os.umask(0o022)  # everybody may pass through the folders that are made on the way to what is shown
    cover_and_bind(plan["covers"], plan["binds"])
    mount("tmpfs", plan["shared_memory"], "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount_processes()
    limit(plan["processes"])
    os.umask(0o077)
    os.chdir(plan["folder"])
    server = subprocess.Popen([*plan["drop"], *command], stdin=subprocess.DEVNULL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.send_signal(signal.SIGTERM))
    while True:
        pid, status = os.wait()
        if pid == server.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def cover_and_bind(covers: list[str], binds: list[list[Any]]) -> None:
    """Cover each folder by an empty one; then show what *binds* names, at its place, read-only unless it says otherwise.

    What lies above comes first, so that a cover never hides what was bound before.
    """
    # Opened before anything is covered: the sources lie below the covers.
    sources = {target: (os.open(source, os.O_PATH), writable) for source, target, writable in binds}
    for target in sorted({*covers, *sources}, key=lambda path: len(Path(path).parts)):
        if target in sources:
            bind(*sources[target], target)
        elif Path(target).exists():
            # One below another cover has gone with it.
            mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for descriptor, _ in sources.values():
        os.close(descriptor)


def bind(source: int, writable: bool, target: str) -> None:
    """Show the folder or file behind an open descriptor at *target*."""
    if not Path(target).exists():
        # Only inside a cover: everything else is there.
        Path(target).mkdir(mode=0o755, parents=True)
    mount(f"/proc/self/fd/{source}", target, "", MS_BIND, "")
    flags = MS_NOSUID | MS_NODEV | (0 if writable else MS_RDONLY)
    mount("", target, "", MS_BIND | MS_REMOUNT | flags, "")


def mount_processes() -> None:
    """A /proc of this namespace, in which processes of other users, process 1 too, are not even listed."""
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    try:
        mount("proc", "/proc", "proc", flags, "hidepid=2")
    except OSError:
        mount("proc", "/proc", "proc", flags, "")


def limit(processes: int) -> None:
    """No core dumps, which hold secrets; many open files; at most so many processes of this OS user, 0 for any."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if processes:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))


def mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    """Mount as the system call of this name does; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount: {os.strerror(number)}", target)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
