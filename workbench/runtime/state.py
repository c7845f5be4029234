"""What a running workbench tells other processes about itself: run/state.json."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

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
    FAILED = "failed"  #: could not be started, or was started again and again without an answer
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
    reason: str = ""  #: why it is restarting, failed or not ready
    ready: bool = False  #: whether it can do its work now, at the last look

    @property
    def live(self) -> bool:
        """Whether it need not be started again: what waits for a database that is away lives, and is not ready."""
        return self.state in {State.STARTING, State.RUNNING, State.EXTERNAL}

    def as_fields(self) -> dict[str, Any]:
        """As values of JSON."""
        return {**asdict(self), "live": self.live}


@dataclass(frozen=True, kw_only=True)
class WorkbenchStatus:
    """All of `workbench status`; `pid` is None when no workbench runs here."""

    pid: int | None
    url: str  #: the address to open, once people can use it
    components: tuple[ComponentStatus, ...]
    ready: bool = False  #: whether everything that people wait for runs

    def as_json(self) -> str:
        """The status as one JSON object."""
        return json.dumps({**asdict(self), "components": [each.as_fields() for each in self.components]}, indent=2)

    @property
    def memory_bytes(self) -> int:
        """Memory of all components together."""
        return sum(component.memory_bytes or 0 for component in self.components)

    @property
    def is_healthy(self) -> bool:
        """Whether the workbench runs, and everything in it can do its work."""
        healthy = {State.RUNNING, State.EXTERNAL}
        return self.pid is not None and all(each.ready and each.state in healthy for each in self.components)


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
                    **{name: value for name, value in entry.items() if name != "live"},
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
