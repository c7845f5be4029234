"""What a running workbench tells other processes about itself: run/state.json."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from workbench.runtime.process import is_lock_held
from workbench.security.secrets import write_private


class State(StrEnum):
    """Where a component is in its life."""

    WAITING = "waiting"  #: its turn has not come
    STARTING = "starting"  #: launched, not answering yet
    RUNNING = "running"  #: answered its last health check
    RESTARTING = "restarting"  #: it died or stopped answering; another start follows
    EXTERNAL = "external"  #: configured to be somebody else's; nothing is started
    FAILED = "failed"  #: could not be started, or died too often
    STOPPED = "stopped"  #: ended on request


@dataclass(frozen=True, kw_only=True)
class ComponentStatus:
    """One line of `workbench status`."""

    name: str
    state: State
    address: str
    pid: int | None = None
    memory_bytes: int | None = None  #: of the process and its children, shared pages counted once
    restarts: int = 0
    reason: str = ""  #: why it is restarting or failed


@dataclass(frozen=True, kw_only=True)
class WorkbenchStatus:
    """All of `workbench status`; `pid` is None when no workbench runs here."""

    pid: int | None
    url: str  #: the address to open, once people can use it
    components: tuple[ComponentStatus, ...]
    ready: bool = False  #: whether everything that people wait for runs

    def as_json(self) -> str:
        """The status as one JSON object."""
        return json.dumps(asdict(self), indent=2)

    @property
    def memory_bytes(self) -> int:
        """Memory of all components together."""
        return sum(component.memory_bytes or 0 for component in self.components)

    @property
    def is_healthy(self) -> bool:
        """Whether the workbench runs and nothing in it is restarting or failed."""
        healthy = {State.RUNNING, State.EXTERNAL}
        return self.pid is not None and all(component.state in healthy for component in self.components)


def supervisor_lock(home: Path) -> Path:
    """The file that a running `workbench up` holds locked."""
    return home / "run" / "supervisor.lock"


def write_status(home: Path, status: WorkbenchStatus) -> None:
    """Publish *status*; readers never see a part of it."""
    write_private(status_file(home), status.as_json() + "\n")


def status_file(home: Path) -> Path:
    """Where the status is published."""
    return home / "run" / "state.json"


def read_status(home: Path, *, memory: bool = True) -> WorkbenchStatus:
    """What runs under *home* now; with *memory* read from the system, which takes tens of milliseconds a process."""
    if not is_lock_held(supervisor_lock(home)):
        return WorkbenchStatus(pid=None, url="", components=())
    with contextlib.suppress(OSError):
        raw = json.loads(status_file(home).read_text(encoding="utf-8"))
        components = tuple(
            ComponentStatus(
                **{
                    **entry,
                    "state": State(entry["state"]),
                    "memory_bytes": memory_bytes(entry["pid"]) if memory else None,
                }
            )
            for entry in raw["components"]
        )
        return WorkbenchStatus(pid=raw["pid"], url=raw["url"], ready=raw["ready"], components=components)
    return WorkbenchStatus(pid=None, url="", components=())


def memory_bytes(pid: int | None) -> int | None:
    """Memory of *pid* and all its descendants: proportional set size where the system has it, else resident."""
    if pid is None:
        return None
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return sum(_memory(each) for each in (process, *_descendants(process)))
    return None


def _descendants(process: psutil.Process) -> Iterable[psutil.Process]:
    return process.children(recursive=True)


def _memory(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        full = process.memory_full_info()
        return int(getattr(full, "pss", 0) or full.rss)
    return 0
