"""What the machine's processes are and take, looked at once for all of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

import psutil

SPARK_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"
WANTED = ["pid", "ppid", "memory_info", "cmdline", "create_time"]


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process as it was when somebody looked."""

    pid: int
    parent: int
    memory_bytes: int  #: resident; what it shares with others counts for each of them
    seconds: float  #: since its start
    is_spark: bool


@dataclass(frozen=True)
class Processes:
    """All processes of one moment."""

    by_parent: Mapping[int, tuple[Process, ...]]
    by_id: Mapping[int, Process]

    @classmethod
    def read(cls) -> Processes:
        """Look at the machine."""
        now = time.time()
        return cls.of(_process(each.info, now) for each in psutil.process_iter(WANTED))

    @classmethod
    def of(cls, processes: Iterable[Process]) -> Processes:
        """The processes, by their parents."""
        by_id = {each.pid: each for each in processes}
        children = defaultdict(list)
        for each in by_id.values():
            children[each.parent].append(each)
        return cls({parent: tuple(found) for parent, found in children.items()}, by_id)

    def tree(self, pid: int) -> tuple[Process, ...]:
        """The process and all that it has started, directly or not; nothing when it is gone."""
        found = [self.by_id[pid]] if pid in self.by_id else []
        for process in found:
            found += self.by_parent.get(process.pid, ())
        return tuple(found)


def _process(info: dict[str, object], now: float) -> Process:
    # What may not be looked at, or has just ended, is None.
    memory, command = info["memory_info"], info["cmdline"] or [""]
    assert isinstance(command, list)
    return Process(
        pid=int(str(info["pid"])),
        parent=int(str(info["ppid"] or 0)),
        memory_bytes=getattr(memory, "rss", 0),
        seconds=now - float(str(info["create_time"] or now)),
        # The guard of a Spark server has the same words in its arguments.
        is_spark=PurePath(command[0]).name == "java" and SPARK_CLASS in command,
    )
