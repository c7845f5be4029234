"""Folders for what is made once and then moved to its place; a process that was killed leaves none for good."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from workbench.runtime.process import is_lock_held
from workbench.security.secrets import locked

PREFIXES = (".archive-", ".fetch-")
MAKING = ".making.lock"  #: in the folder around them: what has no lock of its own yet is not taken for a left one
LONG_SECONDS = 3600.0  #: longer than anything is made
OWNER = "owner.lock"  #: in each, held as long as its process lives


@contextlib.contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in *parent*, removed at the end; those that killed processes have left are removed before.

    Args:
        parent: on the disk to which the results are moved.
        prefix: one of PREFIXES.

    Raises:
        OSError: when it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        with locked(parent / MAKING):
            _remove_left(parent)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent, prefix=prefix)))
            stack.enter_context(locked(folder / OWNER))
        yield folder


def _remove_left(parent: Path) -> None:
    for folder in parent.iterdir():
        # One that cannot be removed keeps nobody from work.
        with contextlib.suppress(OSError):
            is_scratch = folder.name.startswith(PREFIXES) and folder.is_dir() and not folder.is_symlink()
            if is_scratch and _is_left(folder):
                shutil.rmtree(folder)


def _is_left(folder: Path) -> bool:
    if (folder / OWNER).exists():
        return not is_lock_held(folder / OWNER)
    # Of an earlier version, which may be at work in another checkout.
    return folder.stat().st_mtime < time.time() - LONG_SECONDS
