"""Signs of life: a file that a process touches, by which `workbench up` sees whether it still does its work."""

from __future__ import annotations

import time
from pathlib import Path

from workbench.security.secrets import private_folder

FRESH_SECONDS = 30.0


class Sign:
    """The sign of one process; made by whoever looks, touched by whoever works."""

    def __init__(self, home: Path, name: str) -> None:
        self._path = home / "run" / f"{name}.alive"

    def give(self) -> None:
        """Say that all is well now."""
        private_folder(self._path.parent)
        self._path.touch(mode=0o600)

    def take_away(self) -> None:
        """Forget what an earlier process has said."""
        self._path.unlink(missing_ok=True)

    @property
    def is_fresh(self) -> bool:
        """Whether all was well a moment ago."""
        try:
            return time.time() - self._path.stat().st_mtime < FRESH_SECONDS
        except OSError:
            return False
