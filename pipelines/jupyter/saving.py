"""Writes the file of a pipeline: whole or not at all, within JupyterLab's folders, over nothing that was not agreed to."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from pathlib import Path

from pipelines.definition.targets.project import JOBS
from pipelines.jupyter.drafting import Draft
from pipelines.jupyter.places import Place
from workbench.errors import DefinitionError, NotAgreed, WorkbenchError

# As JupyterLab makes files: the project is shared through git, and what others may read is up to the umask.
MODE = 0o666


def found_sha256(draft: Draft) -> str:
    """Of the file that the draft would replace, in hexadecimal digits; empty when there is none that can be read."""
    if not draft.is_named:
        return ""
    try:
        return hashlib.sha256((draft.place.folder / draft.file).read_bytes()).hexdigest()
    except OSError:
        return ""


def save(draft: Draft, *, replaces: str = "", makes_project: bool = False) -> Path:
    """Write a draft that is in order, and return where it is.

    Args:
        draft: what is written.
        replaces: sha256 of the file that may be replaced; empty is none.
        makes_project: whether its folder may be made a project.

    Raises:
        DefinitionError: when something is wrong with the draft.
        NotAgreed: when another file is there, or the folder is no project; nothing is changed.
        WorkbenchError: when the folder leads elsewhere, or cannot be written.
    """
    if draft.problems:
        raise DefinitionError(draft.problems)
    try:
        folder = _jobs(draft.place, makes_project=makes_project)
        _write(folder / f"{draft.name}.yaml", draft, replaces)
    except OSError as error:
        raise WorkbenchError(
            f"{draft.file} could not be written: {error.strerror}",
            remedy="Look at the rights of the folder and at the disk.",
        ) from None
    return folder / f"{draft.name}.yaml"


def _jobs(place: Place, *, makes_project: bool) -> Path:
    if not place.is_project and not makes_project:
        raise NotAgreed(
            f"{place.notebook} is in no project: no folder above it has {JOBS}",
            remedy=f"Agree that {JOBS} is made in {place.shown_folder or 'the uppermost folder'}.",
        )
    folder = place.folder / JOBS
    # Before it is made: what would be made through a link lies elsewhere, too.
    if not folder.resolve().is_relative_to(place.root):
        raise WorkbenchError(
            f"{JOBS} of {place.shown_folder or 'the uppermost folder'} is a link that leads out of the folders of this server",
            remedy="Put the folder itself there.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(path: Path, draft: Draft, replaces: str) -> None:
    if path.is_symlink():
        raise WorkbenchError(f"{draft.file} is a link", remedy="Take another name, or put the file itself there.")
    found = found_sha256(draft)
    if found and found != replaces:
        raise _in_the_way(draft)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_fresh(fresh, draft.text)
        if found:
            fresh.chmod(stat.S_IMODE(path.stat().st_mode))
            fresh.replace(path)
        else:
            path.hardlink_to(fresh)  # unlike a rename, it replaces nothing
    except FileExistsError:
        raise _in_the_way(draft) from None
    finally:
        fresh.unlink(missing_ok=True)


def _write_fresh(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, MODE), "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _in_the_way(draft: Draft) -> NotAgreed:
    return NotAgreed(
        f"{draft.file} is there already, and nobody has agreed to replace it as it is now",
        remedy="Look at it; then take another name, or agree to replace it.",
    )
