"""Where an attempt leaves its files. No two attempts share a folder, so nothing of one ever replaces what another left."""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path

from pipelines.engine.record.keeping import ENCRYPTED, is_encrypted
from workbench.errors import KeysetError
from workbench.security.keyset.inventory import Inventory

logger = logging.getLogger(__name__)

LOG, OUTPUT, TABLES = "log.jsonl", "output.ipynb", "tables.jsonl"


def attempt_folder(home: Path, run_id: int, step: str, number: int, attempt_id: int) -> Path:
    """The folder of an attempt; its name holds the fence."""
    return runs_folder(home) / str(run_id) / f"{step}.{number}-{attempt_id}"


def attempts_beside(folder: Path) -> list[Path]:
    """The folders of all attempts of the same step of the same run, as far as they are on this machine."""
    step, _, _ = folder.name.partition(".")
    return sorted(folder.parent.glob(f"{step}.*"))


def runs_folder(home: Path) -> Path:
    """The folder of all runs."""
    return home / "pipelines" / "runs"


def remove_attempt(home: Path, path: Path) -> bool:
    """Remove the folder of the attempt that left *path*; one that is not below *home* is not ours to remove.

    Returns:
        Whether nothing is left of it.
    """
    folder = path.parent
    if folder.parent.parent != runs_folder(home):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    if is_encrypted(path):
        try:
            Inventory.of(home).forget_below(folder)
        except KeysetError as error:
            # `workbench keys rewrap` will name what is missing.
            logger.warning("%s", error)
    # Of a run whose other attempts are still used, the folder stays.
    with suppress(OSError):
        folder.parent.rmdir()
    is_gone = not is_there(folder)
    if not is_gone:
        logger.warning("%s could not be removed: check who owns it", folder)
    return is_gone


def is_there(folder: Path) -> bool:
    """Whether there is such a folder; True also when nobody here may look."""
    try:
        return folder.exists()
    except OSError as error:
        logger.warning("%s cannot be looked at: %s", folder, error)
        return True


def log_of(folder: Path, *, encrypted: bool) -> Path:
    """The events of the attempt, one a line; grows while it runs."""
    return folder / (LOG + ENCRYPTED if encrypted else LOG)


def log_beside(output: Path) -> Path:
    """The log of the attempt that has left *output*, its notebook or the log itself: both are encrypted, or none is."""
    return log_of(output.parent, encrypted=is_encrypted(output))


def is_notebook(output: Path) -> bool:
    """Whether what an attempt has left is its notebook, and not its log."""
    return output.name.removesuffix(ENCRYPTED) == OUTPUT


def tables_of(folder: Path) -> Path:
    """Which tables the attempt touches, while it runs and where somebody wants to know."""
    return folder / TABLES


def output_of(folder: Path, *, encrypted: bool) -> Path:
    """The notebook of the attempt; appears whole at its end."""
    return folder / (OUTPUT + ENCRYPTED if encrypted else OUTPUT)
