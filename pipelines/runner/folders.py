"""Where an attempt leaves its files. No two attempts share a folder, so nothing of one ever replaces what another left."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

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


def remove_attempt(home: Path, path: Path) -> None:
    """Remove the folder of the attempt that left *path*; one that is not below *home* is not ours to remove."""
    folder = path.parent
    if folder.parent.parent != runs_folder(home):
        return
    shutil.rmtree(folder, ignore_errors=True)
    # Of a run whose other attempts are still used, the folder stays.
    with suppress(OSError):
        folder.parent.rmdir()


def log_of(folder: Path) -> Path:
    """The events of the attempt, one a line; grows while it runs."""
    return folder / LOG


def tables_of(folder: Path) -> Path:
    """Which tables the attempt touches, while it runs and where somebody wants to know."""
    return folder / TABLES


def output_of(folder: Path) -> Path:
    """The notebook of the attempt; appears whole at its end."""
    return folder / OUTPUT
