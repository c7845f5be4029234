"""Workers and schedulers on one store, and what is done to them. Schedules of faults share them, each in its thread."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import psutil
import psycopg

from tests.services.pipelines_project import Site
from workbench.errors import StoreError

WORKER, SCHEDULER = "pipelines.worker", "pipelines.scheduler"
FAULTS = (
    "kill worker", "stop worker", "end worker", "kill scheduler", "stop scheduler",
    "kill a step", "kill a step", "end backends", "kill a backend",
)  # fmt: skip
STOPPED_SECONDS = (1.0, 3.0, 23.0)  # the last is longer than a lease: who wakes up believes that its claims hold


@dataclass(frozen=True)
class Killed:
    """A worker that was killed."""

    pid: int
    at: float  #: seconds since the epoch


class Crew:
    """Three workers and two schedulers, which are started again as `workbench up` would."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self.workers = [self._start(WORKER) for _ in range(3)]
        self.schedulers = [self._start(SCHEDULER) for _ in range(2)]
        self.killed: list[Killed] = []

    def inflict(self, fault: str, rng: random.Random, run_ids: Collection[int]) -> None:
        """Do what the fault says, to who runs a step of these runs where somebody does; all are there afterwards."""
        if fault in {"stop worker", "stop scheduler"}:
            self._stop(fault, rng, run_ids)
        with self._lock:
            if fault == "kill worker":
                chosen = self._worker_of(run_ids, rng)
                self.killed.append(Killed(chosen.pid, time.time()))
                chosen.kill()
                chosen.wait(10)
            elif fault == "end worker":
                self._worker_of(run_ids, rng).terminate()
            elif fault == "kill scheduler":
                rng.choice(self.schedulers).kill()
            elif fault == "kill a step":
                self._kill_a_step(self._worker_of(run_ids, rng), rng)
            elif fault in {"end backends", "kill a backend"}:
                self._fault_of_the_database(fault, rng)
            self._replace()

    def end(self) -> None:
        """End all of them, as `workbench down` does."""
        for each in (*self.workers, *self.schedulers):
            if each.poll() is None:
                self._site.end(each)

    def _stop(self, fault: str, rng: random.Random, run_ids: Collection[int]) -> None:
        with self._lock:
            chosen = self._worker_of(run_ids, rng) if fault == "stop worker" else rng.choice(self.schedulers)
            chosen.send_signal(signal.SIGSTOP)
        # Others go on with their faults, and may kill it meanwhile.
        time.sleep(rng.choice(STOPPED_SECONDS if fault == "stop worker" else STOPPED_SECONDS[:2]))
        with self._lock:
            chosen.send_signal(signal.SIGCONT)

    def _worker_of(self, run_ids: Collection[int], rng: random.Random) -> subprocess.Popen[bytes]:
        """One that runs a step of these runs now, or any."""
        by_pid = {each.pid: each for each in self.workers}
        found: list[subprocess.Popen[bytes]] = []
        # While the database recovers from a fault, nobody knows.
        with suppress(StoreError):
            rows = self._site.ask(
                "SELECT DISTINCT worker FROM pipelines.attempts "
                f"WHERE ended_at IS NULL AND run_id IN ({', '.join(map(str, run_ids))}) ORDER BY 1"
            )
            pids = [int(str(worker).rsplit("-", 2)[1]) for (worker,) in rows]
            found = [by_pid[each] for each in pids if each in by_pid]
        return rng.choice(found or self.workers)

    def _fault_of_the_database(self, fault: str, rng: random.Random) -> None:
        ours = "FROM pg_stat_activity WHERE application_name = 'workbench pipelines'"
        # While it recovers from the fault before, it has had enough.
        with suppress(psycopg.OperationalError):
            if fault == "end backends":
                self._site.server.ask(f"SELECT pg_terminate_backend(pid) {ours}")
            elif found := self._site.server.ask(f"SELECT pid {ours} ORDER BY pid"):
                # All others end with it, and the database recovers as after a crash.
                with suppress(ProcessLookupError):
                    os.kill(int(str(rng.choice(found)[0])), signal.SIGKILL)

    @staticmethod
    def _kill_a_step(worker: subprocess.Popen[bytes], rng: random.Random) -> None:
        with suppress(psutil.NoSuchProcess):
            found = [each for each in psutil.Process(worker.pid).children(recursive=True) if not each.children()]
            if found:
                rng.choice(found).kill()

    def _start(self, module: str) -> subprocess.Popen[bytes]:
        return self._site.start(module, SLOTS="4")

    def _replace(self) -> None:
        for processes, module in ((self.workers, WORKER), (self.schedulers, SCHEDULER)):
            for number, each in enumerate(processes):
                if each.poll() is not None:
                    processes[number] = self._start(module)
