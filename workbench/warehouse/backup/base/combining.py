"""Makes a data folder of a full base backup and the incremental ones after it, by pg_combinebackup.

Source: postgresql.org/docs/18, "pg_combinebackup".
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import BackupError

FIRST_THAT_LINKS = 18


def combine(programs: Path, version: int, folders: Sequence[Path], target: Path) -> None:
    """Write *target*, a folder that is not there yet.

    Files that are the same in both need no place of their own where the program can link them: *folders* are to be
    removed afterwards, and not to be used. It is on the disk once PostgreSQL has begun its recovery.

    Args:
        programs: the installation of PostgreSQL.
        version: its major version.
        folders: the full backup, then each that is built on the one before.
        target: the data folder.

    Raises:
        BackupError: when they do not belong together, or it cannot be written.
    """
    linked = ["--link"] if version >= FIRST_THAT_LINKS else []
    done = subprocess.run(
        [str(programs / "bin" / "pg_combinebackup"), "--no-sync", *linked, f"--output={target}", *map(str, folders)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C"},
    )
    if done.returncode:
        raise BackupError(
            f"pg_combinebackup ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-1000:]}",
            remedy="Restore another backup: `workbench backup list` names them.",
        )
