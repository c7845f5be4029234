"""Where a flow that is kept running has its files, and what its log says."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workbench.logs.rotation import LogLimits, rotate
from workbench.security.secrets import private_folder

TAIL_BYTES = 64 * 1024
TAIL_LINES = 15


@dataclass(frozen=True)
class FlowFiles:
    """The files of one flow on this machine; only its worker writes them."""

    home: Path
    name: str

    @property
    def log(self) -> Path:
        """What its processes print, one after the other."""
        return self.home / "logs" / "flows" / f"{self.name}.log"

    @property
    def lock(self) -> Path:
        """Held while a process of it lives on this machine."""
        return self.home / "run" / "flows" / f"{self.name}.lock"

    @property
    def told(self) -> Path:
        """What the process says to its worker."""
        return self.home / "run" / "flows" / f"{self.name}.json"

    def make_folders(self) -> None:
        """Make them, for nobody else to look into."""
        private_folder(self.log.parent)
        private_folder(self.lock.parent)

    def cut_log(self, limits: LogLimits = LogLimits()) -> None:
        """Keep the log bounded, see `workbench.logs.rotation`; one that cannot be cut grows."""
        with suppress(OSError):
            rotate(self.log, limits)

    def last_lines(self, lines: int = TAIL_LINES) -> str:
        """The end of the log; empty when there is none on this machine."""
        try:
            with self.log.open("rb") as file:
                file.seek(-min(TAIL_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
                return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""
