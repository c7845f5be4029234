"""The memory of a worker that has nothing to do: the process that `workbench up` starts, and what waits beside it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.services.pipelines_project import Site, running_site
from tests.services.workbench import ROOT, environment, wait_until

CALM_SECONDS = 10  # for which it has had nothing to do
READY_SECONDS = 120


def measure_idle(folder: Path, runs: int) -> dict[str, Any]:
    """Megabytes, as proportional set sizes: of a worker that has done nothing yet, each of *runs* anew."""
    each = []
    with running_site(folder) as site:
        for _ in range(runs):
            with worker(site) as process:
                wait_until(partial(is_there, site, process), READY_SECONDS, "the worker")
                time.sleep(CALM_SECONDS)
                each.append(megabytes(psutil.Process(process.pid)))
    middle = sorted(each, key=lambda sizes: sizes["worker"])[len(each) // 2]
    return {"median": middle, "each": each}


@contextmanager
def worker(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """What `workbench up` starts: without what the tests import."""
    with (site.folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.worker"],
            env=environment(site.home, **site.settings(), PYTHONPATH=str(ROOT)),
            stdout=log,
            stderr=log,
            cwd=site.folder,
        )
    try:
        yield process
    finally:
        site.end(process)


def is_there(site: Site, process: subprocess.Popen[bytes]) -> bool:
    """Whether it has given its first sign of life.

    Raises:
        RuntimeError: when it has ended instead.
    """
    if process.poll() is not None:
        raise RuntimeError((site.folder / "worker.log").read_text(encoding="utf-8"))
    return bool(site.ask(f"SELECT 1 FROM pipelines.workers WHERE pid = {process.pid}"))


def megabytes(process: psutil.Process) -> dict[str, Any]:
    """The worker's own, and what its descendants have beside it."""
    below = [each.memory_full_info().pss / 1e6 for each in process.children(recursive=True)]
    return {
        "worker": round(process.memory_full_info().pss / 1e6, 1),
        "children": len(below),
        "children_together": round(sum(below), 1),
    }
