"""Workers and schedulers on one store, and what is done to them. Schedules of faults share them, each in its thread."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil
import psycopg

from tests.failover.pipeline_surroundings import Database, Disk
from tests.services.jumping_clock import JumpingClock
from tests.services.pipelines_project import Site
from workbench.errors import StoreError

WORKER, SCHEDULER = "pipelines.worker", "pipelines.scheduler"
FAULTS = (
    "kill worker", "stop worker", "end worker", "kill scheduler", "stop scheduler", "kill a step", "stop a step",
    "end backends", "kill a backend", "kill database", "stop database", "fill the disk", "jump the clock",
)  # fmt: skip
JUMPS = (-3600, -30, 30, 3600)  # seconds from the right time
STOPPED_SECONDS = (1.0, 3.0, 23.0)  # the last is longer than a lease: who wakes up believes that its claims hold


@dataclass(frozen=True)
class Killed:
    """A worker that was killed."""

    pid: int
    at: float  #: seconds since the epoch
    monotonic: float  #: seconds on the clock that no fault lets jump


@dataclass
class Pause:
    """A time in which a worker was stopped, and so read nothing of what its steps printed; on the same clock."""

    pid: int
    begin: float
    end: float = math.inf  #: while it is stopped


@dataclass(frozen=True)
class Disturbance:
    """A time in which others were not there to take over, in seconds since the epoch."""

    begin: float
    end: float


class Crew:
    """Three workers and two schedulers, which are started again as `workbench up` would."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._clocks: dict[int, JumpingClock] = {}
        self.database, self._disk = Database(site), Disk(site)
        self.disturbances: list[Disturbance] = []
        self.workers = [self._start(WORKER) for _ in range(3)]
        self.schedulers = [self._start(SCHEDULER) for _ in range(2)]
        self.killed: list[Killed] = []
        self.pauses: list[Pause] = []

    def inflict(self, fault: str, rng: random.Random, run_ids: Collection[int]) -> None:
        """Do what the fault says, to who runs a step of these runs where somebody does; all are there afterwards."""
        began = time.time()
        if fault in {"stop worker", "stop scheduler", "stop a step"}:
            self._stop(fault, rng, run_ids)
        with self._lock:
            if fault == "kill worker":
                chosen = self._worker_of(run_ids, rng)
                self.killed.append(Killed(chosen.pid, time.time(), time.monotonic()))
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
            else:
                self._fault_of_surroundings(fault, rng)
            self._replace()
        if fault not in {"kill a step", "stop a step", "jump the clock", "fill the disk"}:
            self.disturbances.append(Disturbance(began, time.time()))

    def end(self) -> None:
        """End all of them, as `workbench down` does."""
        for each in (*self.workers, *self.schedulers):
            if each.poll() is None:
                self._site.end(each)

    def close(self) -> None:
        """Take away what is around them, when outputs were looked at."""
        self._disk.unmount()

    def _stop(self, fault: str, rng: random.Random, run_ids: Collection[int]) -> None:
        with self._lock:
            stopped = self._to_stop(fault, rng, run_ids)
            self.pauses += [Pause(each.pid, time.monotonic()) for each in stopped]
            for each in stopped:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGSTOP)
        # Others go on with their faults, and may kill it meanwhile.
        time.sleep(rng.choice(STOPPED_SECONDS if fault == "stop worker" else STOPPED_SECONDS[:2]))
        with self._lock:
            for each in stopped:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGCONT)
            # Also where another has stopped it again meanwhile: it goes on all the same.
            for pause in self.pauses:
                if pause.pid in {each.pid for each in stopped}:
                    pause.end = min(pause.end, time.monotonic())

    def _to_stop(
        self, fault: str, rng: random.Random, run_ids: Collection[int]
    ) -> Sequence[subprocess.Popen[bytes] | psutil.Process]:
        if fault == "stop scheduler":
            return [rng.choice(self.schedulers)]
        worker = self._worker_of(run_ids, rng)
        found = self._steps_of(worker) if fault == "stop a step" else [worker]
        return [rng.choice(found)] if found else []

    def _fault_of_surroundings(self, fault: str, rng: random.Random) -> None:
        if fault == "kill database":
            self.database.kill()
        elif fault == "stop database":
            self.database.stop(rng.choice(STOPPED_SECONDS[:2]))
        elif fault == "fill the disk" and self._disk.is_there:
            self._disk.fill(rng.choice(STOPPED_SECONDS[:2]))
        elif fault == "jump the clock":
            self._clocks[rng.choice([*self.workers, *self.schedulers]).pid].jump(rng.choice(JUMPS))

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

    def _kill_a_step(self, worker: subprocess.Popen[bytes], rng: random.Random) -> None:
        with suppress(psutil.NoSuchProcess):
            if found := self._steps_of(worker):
                rng.choice(found).kill()

    @staticmethod
    def _steps_of(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """Kernels and processes of its steps, and those that wait for one."""
        with suppress(psutil.NoSuchProcess):
            return [each for each in psutil.Process(worker.pid).children(recursive=True) if not each.children()]
        return []

    def _start(self, module: str) -> subprocess.Popen[bytes]:
        clock = JumpingClock(self._site.folder / f"clock-{uuid.uuid4().hex}")
        clock.jump(0)
        process = self._site.start(module, SLOTS="4", **clock.variables)
        self._clocks[process.pid] = clock
        return process

    def _replace(self) -> None:
        for processes, module in ((self.workers, WORKER), (self.schedulers, SCHEDULER)):
            for number, each in enumerate(processes):
                if each.poll() is not None:
                    processes[number] = self._start(module)
