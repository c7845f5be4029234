"""Where the metrics of each process are: files of `run/metrics`, in the format of Prometheus' `file_sd_configs`.

Source: prometheus.io, "Configuration", `<file_sd_config>`. Labels that begin with two underscores
are not stored; with them a file also says which process it is of.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workbench.living import birth_of, lives

logger = logging.getLogger(__name__)

JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")
HUB = "hub"  #: the job of JupyterHub itself
PID, BORN = "__meta_workbench_pid", "__meta_workbench_started"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The metrics of one process.

    Args:
        job: what the process is, such as `flow:readings`.
        address: host and port.
        path: of the metrics.
        pid: of the process.
        born: of `workbench.living`: another process may get its number.
    """

    job: str
    address: str
    path: str = "/metrics"
    pid: int
    born: str

    @classmethod
    def of_this_process(cls, job: str, address: str, *, path: str = "/metrics") -> Target:
        """Of the process that asks."""
        return cls(job=job, address=address, path=path, pid=os.getpid(), born=birth_of(os.getpid()))

    @property
    def is_alive(self) -> bool:
        """Whether its process is still there."""
        return lives(self.pid, self.born)

    def as_json(self) -> str:
        """As Prometheus reads it."""
        labels = {"job": self.job, "__metrics_path__": self.path, PID: str(self.pid), BORN: self.born}
        return json.dumps([{"targets": [self.address], "labels": labels}])


def targets_folder(home: Path) -> Path:
    """Where the files are."""
    return home / "run" / "metrics"


def target_file(home: Path, job: str) -> Path:
    """The file of a job.

    Raises:
        ValueError: when a file cannot be called so.
    """
    if not JOB.fullmatch(job):
        raise ValueError(f"{job!r} is no name of a job")
    return targets_folder(home) / f"{job}.json"


def read_targets(home: Path) -> Iterable[Target]:
    """All of them; a file that is none is passed over, with a warning."""
    for file in sorted(targets_folder(home).glob("*.json")):
        target = read_target(file)
        if target is not None:
            yield target


def read_target(file: Path) -> Target | None:
    """The target of a file; None when there is none."""
    try:
        ((target),) = json.loads(file.read_bytes())
        labels = target["labels"]
        (address,) = target["targets"]
        return Target(
            job=str(labels["job"]),
            address=str(address),
            path=str(labels["__metrics_path__"]),
            pid=int(labels[PID]),
            born=str(labels[BORN]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s is no target: %s", file, error)
        return None


def forget_target(home: Path, target: Target) -> None:
    """Remove its file, unless another process has written it since."""
    file = target_file(home, target.job)
    if read_target(file) == target:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
