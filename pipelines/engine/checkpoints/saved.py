"""A checkpoint on the disk: a folder that appears whole, and is believed only when nothing in it has changed.

`checkpoint/CELL/` in the folder of an attempt has `about.json`, the values, and a file for each table.
It has its name when all of it is on the disk, so a kill at any moment leaves the checkpoint before.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.security.secrets import private_folder, write_private

FOLDER, ABOUT, FRESH = "checkpoint", "about.json", ".new"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """The last checkpoint of an attempt."""

    folder: Path
    cell: int  #: counted from 0
    same: Mapping[str, str]  #: of `identity`


def new_folder(attempt: Path) -> Path:
    """An empty folder for the values of the next checkpoint of the attempt with that folder.

    Raises:
        OSError: when there is no room.
    """
    fresh = private_folder(attempt / FOLDER) / FRESH
    shutil.rmtree(fresh, ignore_errors=True)
    return private_folder(fresh)


def publish(attempt: Path, cell: int, same: Mapping[str, str]) -> None:
    """Make what is in the new folder the checkpoint of *attempt*; the one before goes.

    Raises:
        OSError: when there is no room; the one before stays then.
    """
    fresh = attempt / FOLDER / FRESH
    files = {each.name: _digest(each) for each in sorted(fresh.iterdir())}
    write_private(fresh / ABOUT, json.dumps({"cell": cell, "same": dict(same), "files": files}, indent=1))
    _sync(fresh)
    fresh.rename(fresh.with_name(str(cell)))
    _sync(fresh.parent)
    for each in _numbered(attempt)[:-1]:
        shutil.rmtree(each, ignore_errors=True)


def drop_new(attempt: Path) -> None:
    """Take away what did not become a checkpoint."""
    shutil.rmtree(attempt / FOLDER / FRESH, ignore_errors=True)


def read_saved(attempt: Path) -> Saved | None:
    """The last checkpoint of the attempt with that folder; None when there is none.

    Raises:
        ValueError: when its files are not those that were written.
        OSError: when they cannot be read.
    """
    found = _numbered(attempt)
    if not found:
        return None
    try:
        about = json.loads((found[-1] / ABOUT).read_bytes())
        files, saved = about["files"], Saved(folder=found[-1], cell=about["cell"], same=about["same"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{ABOUT} is none of ours: {error}") from None
    for name, digest in files.items():
        if _digest(found[-1] / name) != digest:
            raise ValueError(f"{name} has changed")
    return saved


def forget(attempt: Path) -> None:
    """Remove what the attempt with that folder has kept for others."""
    shutil.rmtree(attempt / FOLDER, ignore_errors=True)


def _numbered(attempt: Path) -> list[Path]:
    return sorted((attempt / FOLDER).glob("[0-9]*"), key=lambda each: int(each.name))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
