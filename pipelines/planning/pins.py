"""What the code of a run is: the commit of the project, and the packages that are installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

from pipelines.definition import Project

LOCK = "requirements.lock"
GIT_SECONDS = 10


@dataclass(frozen=True)
class Pins:
    """The same for all runs that are made at one time."""

    git_commit: str | None  #: None when the project is no work tree of git
    lock_hash: str


def read_pins(project: Project) -> Pins:
    """Those of *project* as it is now."""
    root = project.roots[0]
    return Pins(_commit(root), _lock_hash(root / LOCK))


def _commit(root: Path) -> str | None:
    # Of a package that is installed somewhere below a work tree, that tree says nothing.
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None if asked.returncode == 0 else None


def _lock_hash(lock: Path) -> str:
    if lock.is_file():
        return hashlib.sha256(lock.read_bytes()).hexdigest()
    return installed_hash()


def installed_hash() -> str:
    """The sha256 of the names and versions of all packages that this process would import, as they are now."""
    installed = sorted(line for each in sys.path for line in _installed_in(each, _changed_ns(Path(each))))
    return hashlib.sha256("\n".join(installed).encode()).hexdigest()


@lru_cache(maxsize=64)
def _installed_in(folder: str, _changed_ns: int) -> tuple[str, ...]:
    """The packages in a folder, which are read again when something was installed in it.

    A scheduler asks every few seconds, and there are hundreds of files to read.
    """
    return tuple(map(_told, distributions(path=[folder])))


def _told(package: Distribution) -> str:
    try:
        return f"{package.name}=={package.version}"
    except (OSError, ValueError):
        # What it says of itself is not UTF-8, as of old packages. The name of its folder has both.
        return f"{getattr(package, '_path', package)}"


def _changed_ns(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0
