"""Programs that people and jobs run: JupyterLab, kernels and Spark servers among what a workbench has started."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePath

import psutil

#: What is found among the arguments of each kind.
KINDS = {
    "kernel": "ipykernel_launcher",
    "spark": "org.apache.spark.sql.connect.service.SparkConnectServer",
    "server": "hub.spawning.singleuser",
}


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Those of one kind.

    Args:
        count: of processes.
        memory_bytes: resident; what they share counts for each.
    """

    count: int = 0
    memory_bytes: int = 0


def read_programs(pid: int) -> dict[str, Programs]:
    """Each kind, among all that a process has started; what may not be looked at is left out.

    Raises:
        psutil.Error: when there is no such process.
    """
    found = dict.fromkeys(KINDS, Programs())
    for each in psutil.Process(pid).children(recursive=True):
        try:
            kind, memory = _kind_of(each.cmdline()), each.memory_info().rss
        except psutil.Error:
            continue  # it has ended meanwhile, or is another user's
        if kind is not None:
            before = found[kind]
            found[kind] = Programs(count=before.count + 1, memory_bytes=before.memory_bytes + memory)
    return found


def _kind_of(arguments: Iterable[str]) -> str | None:
    # A guard and a wall have the command of what they start behind two dashes.
    own = takewhile(lambda each: each != "--", arguments)
    names = {PurePath(each).name for each in own}
    return next((kind for kind, word in KINDS.items() if word in names), None)
