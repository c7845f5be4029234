"""Signs of life: a file that a process touches, by which `workbench up` sees whether it lives, and whether it can work."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

from workbench.security.secrets import private_folder, write_private

logger = logging.getLogger(__name__)

FRESH_SECONDS = 30.0
NO_STORE = "the store of pipelines does not answer"


class Sign:
    """The sign of one process; made by whoever looks, given by whoever works.

    What keeps the process from its work, though it lives, is the content of the file: a process whose database is
    away need not be restarted.
    """

    def __init__(self, home: Path, name: str) -> None:
        self._path = home / "run" / f"{name}.alive"
        self._said: str | None = None

    def give(self, obstacle: str = "") -> None:
        """Say that the process lives now, and what keeps it from its work, in words that everybody may read.

        On a disk without room it still lives; what keeps it from its work is then said later.
        """
        try:
            if obstacle != self._said or not self._path.exists():
                private_folder(self._path.parent)
                write_private(self._path, obstacle)
                self._said = obstacle
            else:
                self._path.touch(mode=0o600)
        except OSError as error:
            logger.warning("the sign of life cannot be written: %s", error)
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def take_away(self) -> None:
        """Forget what an earlier process has said."""
        self._path.unlink(missing_ok=True)

    @property
    def is_fresh(self) -> bool:
        """Whether it was given a moment ago."""
        try:
            return time.time() - self._path.stat().st_mtime < FRESH_SECONDS
        except OSError:
            return False

    @property
    def obstacle(self) -> str:
        """What keeps the process from its work; empty when nothing does."""
        if not self.is_fresh:
            return f"it has given no sign of life for {FRESH_SECONDS:.0f} s"
        with contextlib.suppress(OSError):
            return self._path.read_text(encoding="utf-8")
        return ""
