"""How much memory this machine lets us have, and whether what is started here fits into it."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import psutil

from workbench.errors import ComponentError
from workbench.settings import Settings

# Megabytes, as benchmarks/README.md has them, but for the broker's and a kernel's.
EVERYTHING = 1500  #: before anybody logs in
SPARK = 435  #: of a Connect server; that of jobs is in the above
BROKER = 215  #: likewise
JUPYTER = 340  #: a person's server and one kernel
PRELOADED = 130  #: of PySpark in a kernel; likewise

GROUPS = Path("/sys/fs/cgroup")
OUR_GROUPS = Path("/proc/self/cgroup")
logger = logging.getLogger(__name__)


class LittleMemory(ComponentError):
    """There is less memory than what is started takes: a warning, for it may do."""


def check_memory(settings: Settings, total: int | None = None) -> str:
    """Compare what there is with what the servers and one person's notebook take.

    Args:
        settings: loaded with `embedded=False`: what they name is elsewhere and takes nothing here.
        total: bytes that there are; unset asks this machine.

    Raises:
        LittleMemory: when there is less. Everything may be started all the same.
    """
    there = (memory_limit() if total is None else total) / 1e9
    sparks = 0 if settings.spark.remote else 2
    notebook = JUPYTER - (0 if settings.spark.preload else PRELOADED)
    needed = EVERYTHING + notebook - SPARK + sparks * SPARK - (BROKER if settings.kafka.brokers else 0)
    taken = f"the servers with one person's notebook take about {needed / 1000:.1f} GB"
    if there >= needed / 1000:
        return f"{there:.1f} GB; {taken}"
    ways = [
        *([f"WORKBENCH_SPARK_REMOTE leads to a Spark elsewhere ({sparks * SPARK} MB less here)"] if sparks else []),
        *([] if settings.kafka.brokers else [f"KAFKA_BROKERS to a broker ({BROKER} MB)"]),
        *([f"WORKBENCH_SPARK_PRELOAD=false makes a kernel {PRELOADED} MB smaller"] if settings.spark.preload else []),
    ]
    raise LittleMemory(f"{there:.1f} GB, and {taken}", remedy=f"Add memory, or set variables: {'; '.join(ways)}.")


def tell_of_little_memory(settings: Settings) -> None:
    """Log one line when memory is little; nothing is refused."""
    try:
        check_memory(settings)
    except LittleMemory as found:
        logger.warning("memory: %s. %s", found.message, found.remedy)


def memory_limit(groups: Path = GROUPS, ours: Path = OUR_GROUPS) -> int:
    """Bytes that the processes of this one may take: of the machine, or of a control group above us that has less."""
    limits = [psutil.virtual_memory().total]
    with suppress(OSError):  # no Linux
        for line in ours.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                limits += _limits(groups, path, "memory.max")
            elif "memory" in controllers.split(","):
                limits += _limits(groups / "memory", path, "memory.limit_in_bytes")
    return min(limits)


def _limits(root: Path, path: str, name: str) -> list[int]:
    # In a container the path can be one of the host, which is not mounted here: the root is ours then.
    group = root / path.strip("/")
    found = []
    for folder in (each for each in (group, *group.parents) if each.is_relative_to(root)):
        with suppress(OSError, ValueError):  # "max" is no limit
            found.append(int((folder / name).read_text(encoding="ascii")))
    return found
