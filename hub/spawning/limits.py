"""What a user's server with all it starts may take of the machine: by control groups, else by what rlimits can do."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from workbench.sections import HubSettings

PERIOD_MICROSECONDS = 100_000
REMOVE_SECONDS = 5.0
CONTROLLERS = ("memory", "cpu", "pids")
SAFE = re.compile(r"[a-z0-9-]+")
NAME_LENGTH = 128  # file systems take 255, with what is put before and behind it
DIGITS = 20
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Of one server; 0 is no limit."""

    memory_bytes: int = 0
    processors: float = 0.0
    processes: int = 0

    @property
    def by_controller(self) -> Mapping[str, float]:
        """What is limited, by the control group's controller."""
        values = dict(zip(CONTROLLERS, (self.memory_bytes, self.processors, self.processes), strict=True))
        return {name: value for name, value in values.items() if value}


def read_limits(hub: HubSettings, role: str) -> ServerLimits:
    """What the settings give to a role."""
    return ServerLimits(
        memory_bytes=bytes_of(hub.limit_of("memory", role) or "0k"),
        processors=float(hub.limit_of("cpu", role) or 0),
        processes=int(hub.limit_of("process", role) or 0),
    )


def set_limits(hub: HubSettings, role: str, spawner: Any) -> ServerLimits:
    """Give JupyterHub's spawner the limits of a role, which it tells the server too; returns all of them.

    Those of Spark are variables that the user may change: a convenience, and no wall.
    """
    limits = read_limits(hub, role)
    # The role may be another at the next start: its variables go over what all have, not over those of the last.
    spawner.common_environment = getattr(spawner, "common_environment", spawner.environment)
    spawner.environment = {**spawner.common_environment, **hub.spark_environment(role)}
    spawner.mem_limit = limits.memory_bytes or None
    spawner.cpu_limit = limits.processors or None
    return limits


def bytes_of(size: str) -> int:
    """`512m` in bytes; k, m, g, t are powers of 1024."""
    return int(size[:-1]) * int(1024 ** ("kmgt".index(size[-1].lower()) + 1))


def make_groups(name: str, limits: ServerLimits) -> list[Path]:
    """Control groups that enforce *limits* on whoever enters all of them; what cannot be enforced is logged once."""
    groups: set[Path] = set()
    hierarchies = find_hierarchies()
    for controller, value in limits.by_controller.items():
        parent = hierarchies.get(controller)
        if parent is None:
            _warn(controller)
            continue
        group = parent / f"workbench-{name}"
        with contextlib.suppress(FileExistsError):
            group.mkdir()
        for file, content in _settings(controller, value, unified=_is_unified(parent)).items():
            if (group / file).exists():
                (group / file).write_text(content, encoding="ascii")
        groups.add(group)
    return sorted(groups)


def remove_groups(groups: Sequence[Path], seconds: float = REMOVE_SECONDS) -> None:
    """Remove groups whose processes have ended, or are just ending."""
    deadline = time.monotonic() + seconds
    for group in groups:
        while group.exists():
            try:
                group.rmdir()
            except OSError as error:
                if time.monotonic() > deadline:
                    logger.warning("The control group %s is left: %s", group, error)
                    break
                time.sleep(0.02)


@cache
def find_hierarchies() -> Mapping[str, Path]:
    """For each controller that we may use, the folder to make groups in: our own group, so that its limits hold too."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    ours = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    return {
        controller: folder
        for controller, folder in parse_hierarchies(mounts, ours).items()
        if (not _is_unified(folder) or _enable(folder)) and _can_make_groups(folder)
    }


def parse_hierarchies(mounts: str, ours: str) -> dict[str, Path]:
    """Controllers and the folder of our own group in each, from /proc/self/mounts and /proc/self/cgroup."""
    paths: dict[str, str] = {}
    for line in ours.splitlines():
        _, names, path = line.split(":", 2)
        paths |= dict.fromkeys(names.split(","), path)
    found: dict[str, Path] = {}
    for _, point, kind, options, *_ in (line.split(" ") for line in mounts.splitlines()):
        if kind == "cgroup":
            found |= {name: _below(point, paths[name]) for name in CONTROLLERS if name in options.split(",")}
        elif kind == "cgroup2":
            folder = _below(point, paths.get("", "/"))
            available = _read(folder / "cgroup.controllers").split()
            found |= {name: folder for name in CONTROLLERS if name in available and name not in found}
    return found


def _below(point: str, path: str) -> Path:
    # In a container the path can be one of the host, which is not mounted here.
    folder = Path(point) / path.lstrip("/")
    return folder if folder.is_dir() else Path(point)


def _is_unified(folder: Path) -> bool:
    return (folder / "cgroup.controllers").exists()


def _enable(folder: Path) -> bool:
    """Let groups below *folder* have controllers; our own processes go into one of them, as version 2 demands."""
    wanted = " ".join(f"+{name}" for name in CONTROLLERS if name in _read(folder / "cgroup.controllers").split())
    control = folder / "cgroup.subtree_control"
    with contextlib.suppress(OSError):
        control.write_text(wanted, encoding="ascii")
        return True
    with contextlib.suppress(OSError):
        main = folder / "workbench"
        main.mkdir(exist_ok=True)
        for pid in _read(folder / "cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                (main / "cgroup.procs").write_text(pid, encoding="ascii")
        control.write_text(wanted, encoding="ascii")
        return True
    return False


def _can_make_groups(folder: Path) -> bool:
    probe = folder / "workbench-probe"
    with contextlib.suppress(OSError):
        probe.mkdir(exist_ok=True)
        probe.rmdir()
        return True
    return False


def _settings(controller: str, value: float, *, unified: bool) -> Mapping[str, str]:
    """Files of a group and what to write, in this order; the kernel may lack one (no swap, no accounting)."""
    quota = f"{value * PERIOD_MICROSECONDS:.0f}"
    if controller == "pids":
        return {"pids.max": f"{value:.0f}"}
    if controller == "memory":
        size = f"{value:.0f}"
        if unified:
            return {"memory.max": size, "memory.swap.max": "0"}
        return {"memory.limit_in_bytes": size, "memory.memsw.limit_in_bytes": size}
    if unified:
        return {"cpu.max": f"{quota} {PERIOD_MICROSECONDS}"}
    return {"cpu.cfs_period_us": str(PERIOD_MICROSECONDS), "cpu.cfs_quota_us": quota}


@cache
def _warn(controller: str) -> None:
    instead = "The limit of the OS user counts instead" if controller == "pids" else "It is not enforced"
    logger.warning("A limit of %s is set, but control groups of this machine cannot be used. %s.", controller, instead)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="ascii")
    return ""


def safe_name(*parts: str) -> str:
    """A file name from the names of a user and a server; no two pairs have the same.

    A name that could not stay as it is ends in digits of its hash.
    """
    readable = ".".join(re.sub(r"[^a-z0-9-]", "_", part) for part in parts if part)
    *first, last = parts
    is_safe = all(SAFE.fullmatch(part) for part in first) and (not last or SAFE.fullmatch(last))
    if readable and is_safe and len(readable) <= NAME_LENGTH:
        return readable
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:DIGITS]
    # What is safe has no `_`.
    return f"{readable[: NAME_LENGTH - DIGITS - 1]}_{digest}"
