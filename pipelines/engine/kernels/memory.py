"""Whether a kernel that was killed had likely run out of memory, by what Linux counts."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from pipelines.engine.kernels.process import Ending

NEAR = 0.9  # of the limit
GROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60  # control groups of version 1 write a number of that order


class MemoryWatch:
    """Counts what the kernel of the operating system has killed for want of memory from now on."""

    def __init__(self) -> None:
        self._group = _control_group()
        self._kills = _kills(self._group)

    def explains(self, ending: Ending) -> bool:
        """Whether want of memory is the likely cause of *ending*."""
        if ending.signal != "SIGKILL":
            return False
        if _kills(self._group) > self._kills:
            return True
        return (ending.peak_memory_bytes or 0) >= NEAR * memory_limit_bytes(self._group)


def memory_limit_bytes(group: Path | None) -> int:
    """What a process of the control group may have: its limit, or the machine's memory."""
    limits = [psutil.virtual_memory().total]
    for name in ("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            limits.append(int((group / name).read_text()))  # type: ignore[operator]
    return min(each for each in limits if each < UNLIMITED)


def _control_group() -> Path | None:
    """The folder of our control group with the memory controller, of version 2 or 1 (cgroups(7))."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in {"", "memory"}:
                folder = GROUPS / controllers / path.lstrip("/")
                if (folder / "memory.events").exists() or (folder / "memory.oom_control").exists():
                    return folder
    return None


def _kills(group: Path | None) -> int:
    for name in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError, TypeError, ValueError):
            text = (group / name).read_text(encoding="utf-8")  # type: ignore[operator]
            counts = dict(line.split() for line in text.splitlines())
            return int(counts.get("oom_kill", 0))
    return 0
