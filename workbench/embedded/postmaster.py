"""The `postmaster.pid` that a crash has left in a data folder of PostgreSQL.

PostgreSQL takes over one whose number nobody has. After a loss of power, or in a container that was started again,
the number may be another process's by now: PostgreSQL then takes that for a server, and never starts.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from workbench.errors import DataFolderError
from workbench.runtime.process import is_lock_held

NAME = "postmaster.pid"


def forget_dead_postmaster(data: Path, lock: Path) -> None:
    """Remove the file of *data* when PostgreSQL would take it for a server's, and no process works in that folder.

    Every process of PostgreSQL has its data folder as its working folder for as long as it lives.

    Args:
        data: PGDATA.
        lock: held as long as a server that the workbench has started lives, or anything of it.

    Raises:
        DataFolderError: when another process works there, such as a PostgreSQL that was started by hand.
    """
    noted = _noted(data / NAME)
    if noted is None or is_lock_held(lock):
        return
    for pid in psutil.pids():
        works_there = _works_in(pid, data)
        if works_there:
            raise DataFolderError(
                f"the process {pid} works in {data}, which a PostgreSQL has noted as its own in {NAME}",
                remedy=f"End that process (`ps -p {pid}` shows it), then start again.",
            )
        if works_there is None and pid == noted:
            return
    (data / NAME).unlink(missing_ok=True)


def _noted(file: Path) -> int | None:
    """The number in the first line, 0 when there is none; None without a file, or when PostgreSQL sees to it.

    It takes over a file whose number nobody has, or somebody whom it may not signal, and looks at its shared memory
    then. The number may be that of a thread, too.
    """
    try:
        # PostgreSQL without a server notes it as negative.
        number = abs(int(file.read_bytes().partition(b"\n")[0]))
        os.kill(number, 0)
    except ValueError:
        return 0
    except (OSError, OverflowError):
        return None
    return number


def _works_in(pid: int, folder: Path) -> bool | None:
    """Whether the working folder of a process is *folder*; None when we may not know."""
    try:
        # By the folder and not by its name, which is another in a mount namespace.
        where = Path(f"/proc/{pid}/cwd") if psutil.LINUX else Path(psutil.Process(pid).cwd())
        return where.samefile(folder)
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return False
    except (OSError, psutil.Error):
        return None
