"""A checkpoint on the disk: a folder that appears whole, and is believed only when nothing in it has changed.

`checkpoint/CELL/` in the folder of an attempt has `about.json`, and `state.enc` with all that is
carried; in clear that is the values, and a file for each table.
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

from pipelines.engine.checkpoints.passing import STATE
from workbench.security.encryption.files import moving
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder, write_private

FOLDER, ABOUT, FRESH = "checkpoint", "about.json", ".new"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """The last checkpoint of an attempt."""

    folder: Path
    cell: int  #: counted from 0
    same: Mapping[str, str]  #: of `identity`

    @property
    def state(self) -> Path | None:
        """What it carries, encrypted; None for one in clear."""
        path = self.folder / STATE
        return path if path.exists() else None

    @property
    def context(self) -> str:
        """What its state is bound to."""
        return context_of(self.folder.parent.parent, self.cell, self.same)


def context_of(attempt: Path, cell: int, same: Mapping[str, str]) -> str:
    """What the state of a checkpoint is bound to: its place, and what `about.json` says of it."""
    said = hashlib.sha256(json.dumps(dict(same), sort_keys=True).encode()).hexdigest()
    return "/".join(["pipelines", *attempt.absolute().parts[-2:], FOLDER, str(cell), said])


def new_folder(attempt: Path) -> Path:
    """An empty folder for the values of the next checkpoint of the attempt with that folder.

    Raises:
        OSError: when there is no room.
    """
    fresh = private_folder(attempt / FOLDER) / FRESH
    shutil.rmtree(fresh, ignore_errors=True)
    return private_folder(fresh)


def publish(attempt: Path, cell: int, same: Mapping[str, str], keys: Keys | None = None) -> None:
    """Make what is in the new folder the checkpoint of *attempt*; the one before goes.

    Args:
        attempt: its folder.
        cell: the checkpoint.
        same: of `identity`.
        keys: with which its state is encrypted; None for one in clear.

    Raises:
        OSError: when there is no room; the one before stays then.
        KeysetError: when the inventory of keys cannot be written; the same.
    """
    fresh = attempt / FOLDER / FRESH
    # What is encrypted proves itself, and its header changes when keys do.
    files = {each.name: _digest(each) for each in sorted(fresh.iterdir()) if each.name != STATE}
    write_private(fresh / ABOUT, json.dumps({"cell": cell, "same": dict(same), "files": files}, indent=1))
    _sync(fresh)
    goal = fresh.with_name(str(cell))
    if keys is None:
        fresh.rename(goal)
    else:
        with moving(keys, fresh / STATE, goal / STATE):
            fresh.rename(goal)
    _sync(fresh.parent)
    for each in _numbered(attempt)[:-1]:
        shutil.rmtree(each, ignore_errors=True)
        if keys is not None:
            keys.inventory.forget_below(each)


def drop_new(attempt: Path, keys: Keys | None = None) -> None:
    """Take away what did not become a checkpoint."""
    shutil.rmtree(attempt / FOLDER / FRESH, ignore_errors=True)
    if keys is not None:
        keys.inventory.forget_below(attempt / FOLDER / FRESH)


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
    if saved.state is None and not files:
        raise ValueError("what it carries is gone")
    for name, digest in files.items():
        if _digest(found[-1] / name) != digest:
            raise ValueError(f"{name} has changed")
    return saved


def forget(attempt: Path, keys: Keys | None = None) -> None:
    """Remove what the attempt with that folder has kept for others.

    Raises:
        KeysetError: when the inventory of keys cannot be written; the files are gone.
    """
    shutil.rmtree(attempt / FOLDER, ignore_errors=True)
    if keys is not None:
        keys.inventory.forget_below(attempt / FOLDER)


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
