"""Where a flow that is kept running has its files, and what its log says."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workbench.security.secrets import private_folder

MOST_BYTES = 8 * 1024 * 1024  #: of a log, and of the one before it
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
    def older_log(self) -> Path:
        """What was there before the log became too long."""
        return self.log.with_suffix(".log.1")

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

    def cut_log(self, most_bytes: int = MOST_BYTES) -> None:
        """Begin the log anew when it is longer; what is written in that moment may be left out."""
        try:
            if self.log.stat().st_size <= most_bytes:
                return
        except FileNotFoundError:
            return
        fresh = self.older_log.with_suffix(".new")
        # On a full disk the older log stays as it is: to bound this one comes first.
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
            with self.log.open("rb") as source, os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as to:
                source.seek(-most_bytes, os.SEEK_END)
                shutil.copyfileobj(source, to)
            fresh.replace(self.older_log)
        # Its process appends: it goes on at the new end.
        os.truncate(self.log, 0)

    def last_lines(self, lines: int = TAIL_LINES) -> str:
        """The end of the log; empty when there is none on this machine."""
        try:
            with self.log.open("rb") as file:
                file.seek(-min(TAIL_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
                return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""
