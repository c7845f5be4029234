"""Seeded waves of faults against workers, schedulers, kernels and the database, each ended by a proof.

    python -m tests.failover.pipeline_chaos --schedules 1000 --seed 1

A wave makes runs of small pipelines, by hand and by a schedule that has to catch up, and meanwhile
does to the processes what its seed says. Then every run must have ended, and succeeded; each step
must have one attempt that succeeded, whose output is the step's and is there; each instant of the
schedule must have been run once; and nothing may be left in the queue.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from pipelines.scheduler.scheduler import Scheduler
from pipelines.states import State
from tests.services.pipelines_project import Site, running_site
from tests.services.workbench import wait_until
from workbench.errors import WorkbenchError

WORKER, SCHEDULER = "pipelines.worker", "pipelines.scheduler"
FAULTS = (
    "kill worker", "kill worker", "kill both workers", "stop worker", "end worker",
    "kill scheduler", "stop scheduler", "kill a step", "kill a step", "end backends", "kill a backend",
)  # fmt: skip
ENDED_SECONDS = 150.0
PATIENT = {"times": 100, "wait": "1s", "factor": 1.0, "on": ["kernel_died", "lost", "infrastructure_error"]}
INSTANTS = 10
MODULE = """
import time

def work(seconds: float, number: int) -> int:
    print("begins", number, flush=True)
    time.sleep(seconds)
    return number
"""


@dataclass
class Wave:
    """What happens, as its seed says."""

    seed: int
    runs: int = 10
    faults: int = 6
    done: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"seed {self.seed}: {', '.join(self.done)}"


class Crew:
    """Two workers and two schedulers, which are started again as `workbench up` would."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self._site, self._rng = site, rng
        self.workers = [site.start(WORKER) for _ in range(2)]
        self.schedulers = [site.start(SCHEDULER) for _ in range(2)]

    def inflict(self, fault: str) -> None:
        """Do what the fault says; there are two of each afterwards."""
        if fault in {"kill worker", "kill both workers"}:
            for each in self.workers if fault == "kill both workers" else [self._rng.choice(self.workers)]:
                each.kill()
        elif fault == "end worker":
            self._rng.choice(self.workers).terminate()
        elif fault == "kill scheduler":
            self._rng.choice(self.schedulers).kill()
        elif fault in {"stop worker", "stop scheduler"}:
            chosen = self._rng.choice(self.workers if fault == "stop worker" else self.schedulers)
            chosen.send_signal(signal.SIGSTOP)
            # Sometimes for longer than a lease: it then wakes up and believes that it still has its claims.
            time.sleep(self._rng.choice([1.0, 3.0, 23.0 if fault == "stop worker" else 3.0]))
            chosen.send_signal(signal.SIGCONT)
        elif fault == "kill a step":
            self._kill_a_step()
        else:
            self._fault_of_the_database(fault)
        self._replace()

    def _fault_of_the_database(self, fault: str) -> None:
        ours = "FROM pg_stat_activity WHERE application_name = 'workbench pipelines'"
        # While it recovers from the fault before, it has had enough.
        with suppress(psycopg.OperationalError):
            if fault == "end backends":
                self._site.server.ask(f"SELECT pg_terminate_backend(pid) {ours}")
            elif found := self._site.server.ask(f"SELECT pid {ours}"):
                # All others end with it, and the database recovers as after a crash.
                os.kill(int(str(self._rng.choice(found)[0])), signal.SIGKILL)

    def end(self) -> None:
        """End all of them, as `workbench down` does."""
        for each in (*self.workers, *self.schedulers):
            if each.poll() is None:
                self._site.end(each)

    def _kill_a_step(self) -> None:
        trees = [psutil.Process(each.pid) for each in self.workers if each.poll() is None]
        with suppress(psutil.NoSuchProcess):
            found = [each for tree in trees for each in tree.children(recursive=True) if not each.children()]
            if found:
                self._rng.choice(found).kill()

    def _replace(self) -> None:
        for processes, module in ((self.workers, WORKER), (self.schedulers, SCHEDULER)):
            for number, each in enumerate(processes):
                if each.poll() is not None:
                    processes[number] = self._site.start(module)


def run_wave(site: Site, wave: Wave) -> None:
    """Run one wave; raises AssertionError, with what was done, when something is lost, doubled or stuck."""
    rng = random.Random(wave.seed)
    name = f"wave-{wave.seed}"
    prepare(site, name, rng)
    crew = Crew(site, rng)
    try:
        run_ids = [site.start_run(name, number=number, seconds=rng.uniform(0.0, 1.5)) for number in range(wave.runs)]
        for _ in range(wave.faults):
            time.sleep(rng.uniform(0.5, 3.0))  # the instant of the fault, not a wait for anything
            fault = rng.choice(FAULTS)
            wave.done.append(fault)
            crew.inflict(fault)
        wait_until(lambda: patiently(lambda: is_done(site, name)), ENDED_SECONDS, f"all runs of {wave} to end")
    finally:
        crew.end()
    assert (found := problems(site, name, run_ids)) == [], f"{wave}: {found}"


def prepare(site: Site, name: str, rng: random.Random) -> None:
    """A pipeline with a chain of steps, and one with a schedule that is behind by some minutes."""
    site.module("wave_steps", MODULE)
    site.notebook("wave", "number = 0  # type: int", "print('begins', number)", tags=["parameters"])
    function = {"function": "wave_steps:work", "parameters": {"seconds": "${seconds}", "number": "${number}"}}
    steps = {"a": {**function, "retries": PATIENT}, "b": {**function, "after": ["a"], "retries": PATIENT}}
    if rng.random() < 0.5:
        steps["b"] = {
            "notebook": "notebooks/wave.ipynb", "after": ["a"], "parameters": {"number": "${number}"}, "retries": PATIENT,
        }  # fmt: skip
    parameters = {"seconds": "float", "number": "int"}
    concurrency = {"runs": 1000}
    site.pipeline(name, parameters=parameters, steps=steps, concurrency=concurrency)
    schedule = {
        "cron": "* * * * *", "zone": "UTC", "catch_up": {"mode": "all", "at_most": 1000},
        "parameters": {"seconds": 0.0, "number": 0},
    }  # fmt: skip
    steps = {"a": {**function, "retries": PATIENT}}
    timed = f"timed-{name}"
    site.pipeline(timed, parameters=parameters, steps=steps, schedule=schedule, concurrency=concurrency)
    Scheduler(site.store, site.project).sync()
    site.ask(
        f"UPDATE pipelines.schedules SET cursor = date_trunc('minute', now()) - interval '{INSTANTS} minutes', "
        f"next_at = date_trunc('minute', now()) - interval '{INSTANTS - 1} minutes' WHERE pipeline = '{timed}'"
    )


def is_done(site: Site, name: str) -> bool:
    """Whether the schedule has caught up and every run has ended."""
    ((instants, still_open),) = site.ask(
        f"SELECT count(*) FILTER (WHERE pipeline = 'timed-{name}'), count(*) FILTER (WHERE ended_at IS NULL) "
        f"FROM pipelines.runs WHERE pipeline IN ('{name}', 'timed-{name}')"
    )
    return int(str(instants)) >= INSTANTS and still_open == 0


def problems(site: Site, name: str, run_ids: list[int]) -> list[str]:
    """Everything that is not as it has to be."""
    names = f"('{name}', 'timed-{name}')"
    runs = site.ask(f"SELECT id, state, reason FROM pipelines.runs WHERE pipeline IN {names} AND ended_at IS NOT NULL")
    found = [f"run {run_id} ended {state}: {reason}" for run_id, state, reason in runs if state != State.SUCCEEDED]
    found += [f"run {each} is lost" for each in set(run_ids) - {int(str(row[0])) for row in runs}]
    steps = site.ask(
        "SELECT s.run_id, s.name, s.output_path, array_agg(a.output_path) FILTER (WHERE a.state = 'succeeded') "
        "FROM pipelines.steps s JOIN pipelines.runs r ON r.id = s.run_id JOIN pipelines.attempts a ON a.step_id = s.id "
        f"WHERE r.pipeline IN {names} AND r.ended_at IS NOT NULL GROUP BY s.id ORDER BY s.id"
    )
    for run_id, step, output, succeeded in steps:
        if succeeded != [output]:
            found.append(f"step {step} of run {run_id} was published as {succeeded}, and points to {output}")
        elif not Path(str(output)).is_file():
            found.append(f"step {step} of run {run_id} has no output at {output}")
    instants = site.ask(f"SELECT instant FROM pipelines.runs WHERE pipeline = 'timed-{name}'")
    if len(instants) != len(set(instants)):
        found.append("an instant was run twice")
    left = site.ask(
        f"SELECT count(*) FROM pipelines.queue q JOIN pipelines.runs r ON r.id = q.run_id "
        f"WHERE r.pipeline IN {names} AND r.ended_at IS NOT NULL"
    )
    return found if left == [(0,)] else [*found, f"{left} steps of ended runs are in the queue"]


def patiently(action: Callable[[], bool]) -> bool:
    """What *action* says; False while the faults are in its way."""
    try:
        return action()
    except WorkbenchError:
        return False


def main() -> None:
    """Run as many waves as asked for; exit 1 when one found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, running_site(Path(folder)) as site:
        os.chdir(folder)
        for seed in range(arguments.seed, arguments.seed + arguments.schedules):
            wave = Wave(seed)
            try:
                run_wave(site, wave)
                print(f"right    {wave}", flush=True)
            except AssertionError as error:
                wrong += 1
                print(f"WRONG    {error}", flush=True)
    print(f"{arguments.schedules - wrong} of {arguments.schedules} waves right, {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
