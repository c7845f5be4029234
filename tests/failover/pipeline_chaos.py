"""Seeded schedules of faults against workers, schedulers, steps and the database of pipelines, each ended by a proof.

    python -m tests.failover.pipeline_chaos --schedules 1000 --seed 1

A schedule is a seeded sequence of two faults against two runs of its own, of two steps each. Schedules run in
waves of twenty, side by side on one database, three workers and two schedulers. Each has a thread that does to
the processes what its seed says, to those that run its own steps where it can; so every schedule also meets the
faults of the others in its wave. Which process runs what at that instant is chance: a seed gives the same faults
in the same order, and not the same history. A wave also has a cron schedule that has to catch up.

The database is killed and stopped, too, outputs find no room, which needs root to mount a file system, and the clocks
of workers and schedulers jump; that of the database, which leases go by, never does.

Of each schedule every run must have ended, and succeeded; each step must have one attempt that succeeded, whose
output is the step's and is there; and nothing may be left in the queue. Of each wave each instant must have
been run once. Of each worker that was killed, what it ran must be another's in time, and its log may lack no
more than a second of what steps have printed while it was there to read: others may have stopped it just then.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pipelines.definition import read_pipeline
from pipelines.engine.record.events import Kind, read_events
from pipelines.planning.pins import Pins
from pipelines.planning.runs import Plan, Start
from pipelines.scheduler.scheduler import Scheduler
from pipelines.states import State
from pipelines.store.records import Trigger
from pipelines.store.runs.making import make_runs
from tests.failover.pipeline_crew import FAULTS, Crew, Killed
from tests.services.pipelines_project import Site, running_site
from tests.services.workbench import wait_until
from workbench.errors import StoreError, WorkbenchError

AT_ONCE = 20
FAULTS_EACH = 2
RUNS = 2
INSTANTS = 10
ENDED_SECONDS = 240.0
TAKE_OVER_SECONDS = 20.0
# After others of the wave have had schedulers, workers or the database down: all of it begins again on one machine.
BACK_SECONDS = 15.0
LOST_SECONDS = 1.0
PATIENT = {"times": 100, "wait": "1s", "factor": 1.0, "on": ["kernel_died", "lost", "infrastructure_error"]}
MODULE = """
import time
import uuid
from pathlib import Path

def work(seconds: float, number: int) -> int:
    beside = Path({folder!r}) / uuid.uuid4().hex
    print("beside", beside.name, flush=True)
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        with beside.open("a") as file:
            file.write(f"{{now}}\\n")
        print(now, flush=True)
        time.sleep(0.1)
    return number
"""


@dataclass
class Schedule:
    """What happens to a set of runs, as its seed says."""

    seed: int
    done: list[str] = field(default_factory=list)
    run_ids: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return f"seed {self.seed}: {', '.join(self.done)}"


@dataclass(frozen=True)
class Names:
    """The pipelines of a wave."""

    function: str  #: a chain that ends with a function
    notebook: str  #: a chain that ends with a notebook, and so with a kernel
    timed: str

    @classmethod
    def of(cls, schedules: list[Schedule]) -> Names:
        """Those of the wave that begins with the first of these."""
        seed = schedules[0].seed
        return cls(f"function-{seed}", f"notebook-{seed}", f"timed-{seed}")


def run_wave(site: Site, schedules: list[Schedule]) -> dict[int, list[str]]:
    """Run schedules side by side; returns everything that is not as it has to be, by seed."""
    names = Names.of(schedules)
    hour = prepare(site, names)
    make_runs_of(site, names, schedules)
    crew = Crew(site)
    try:
        with ThreadPoolExecutor(len(schedules)) as pool:
            afflicted = [pool.submit(afflict, crew, each) for each in schedules]
            crew.database.attend(lambda: all(each.done() for each in afflicted))
        for each in afflicted:
            each.result()
        wait_until(lambda: patiently(lambda: is_done(site, names)), ENDED_SECONDS, "all runs to end")
        crew.end()
        of_wave = [
            *timed_problems(site, names, hour),
            *(text for each in crew.killed for text in killed_problems(site, crew, each)),
        ]
        return {each.seed: [*problems(site, each.run_ids), *of_wave] for each in schedules}
    except AssertionError as error:
        return {each.seed: [f"{error}: {open_runs(site, names)}"] for each in schedules}
    finally:
        crew.end()
        crew.close()


def prepare(site: Site, names: Names) -> datetime:
    """The pipelines, one of them with a schedule that is behind by some hours; returns the last hour of these."""
    folder = site.folder / "beside"
    folder.mkdir(exist_ok=True)
    site.module("chaos_steps", MODULE.format(folder=str(folder)))
    site.notebook("chaos", "number = 0  # type: int", "print('begins', number)", tags=["parameters"])
    for path in site.project.jobs.glob("*.yaml"):
        path.unlink()
    function = {
        "function": "chaos_steps:work", "parameters": {"seconds": "${seconds}", "number": "${number}"}, "retries": PATIENT,
    }  # fmt: skip
    notebook = {"notebook": "notebooks/chaos.ipynb", "parameters": {"number": "${number}"}, "retries": PATIENT}
    common = {"parameters": {"seconds": "float", "number": "int"}, "concurrency": {"runs": 1000}}
    for name, last in ((names.function, function), (names.notebook, notebook)):
        site.pipeline(name, steps={"a": function, "b": {**last, "after": ["a"]}}, **common)
    clock = {
        "cron": "0 * * * *", "zone": "UTC", "catch_up": {"mode": "all", "at_most": 1000},
        "parameters": {"seconds": 0.0, "number": 0},
    }  # fmt: skip
    site.pipeline(names.timed, steps={"a": function}, schedule=clock, **common)
    Scheduler(site.store, site.project).sync()
    ((hour,),) = site.ask(
        f"UPDATE pipelines.schedules SET cursor = date_trunc('hour', now()) - interval '{INSTANTS} hours', "
        f"next_at = date_trunc('hour', now()) - interval '{INSTANTS - 1} hours' WHERE pipeline = '{names.timed}' "
        f"RETURNING cursor + interval '{INSTANTS} hours'"
    )
    assert isinstance(hour, datetime)
    return hour


def make_runs_of(site: Site, names: Names, schedules: list[Schedule]) -> None:
    """The runs of each schedule, all of them before the first fault."""
    plans = [
        Plan(read_pipeline(site.project.jobs / f"{name}.yaml", site.project), Pins(None, "lock"))
        for name in (names.function, names.notebook)
    ]
    for schedule in schedules:
        rng = random.Random(-schedule.seed)
        runs = []
        for number in range(RUNS):
            event = f"{schedule.seed} {number}"
            start = Start(trigger=Trigger.MANUAL, instant=datetime.now(UTC), event_id=event)
            given = {"seconds": rng.uniform(0.0, 2.5), "number": number}
            runs.append(plans[number % 2 and schedule.seed % 2].run(start, given))
        with site.store.transaction() as connection:
            schedule.run_ids = list(make_runs(connection, runs).values())


def afflict(crew: Crew, schedule: Schedule) -> None:
    """Do to whoever runs its steps what the seed says."""
    rng = random.Random(schedule.seed)
    for _ in range(FAULTS_EACH):
        time.sleep(rng.uniform(0.5, 5.0))  # the instant of the fault, not a wait for anything
        fault = rng.choice(FAULTS)
        schedule.done.append(fault)
        crew.inflict(fault, rng, schedule.run_ids)


def is_done(site: Site, names: Names) -> bool:
    """Whether the schedule has caught up and every run has ended."""
    ((instants, still_open),) = site.ask(
        f"SELECT count(*) FILTER (WHERE pipeline = '{names.timed}'), count(*) FILTER (WHERE ended_at IS NULL) "
        f"FROM pipelines.runs WHERE pipeline IN ('{names.function}', '{names.notebook}', '{names.timed}')"
    )
    return int(str(instants)) >= INSTANTS and still_open == 0


def open_runs(site: Site, names: Names) -> str:
    """Which runs have not ended, for who looks why."""
    listed = f"('{names.function}', '{names.notebook}', '{names.timed}')"
    query = (
        f"SELECT id, pipeline, state FROM pipelines.runs WHERE pipeline IN {listed} AND ended_at IS NULL ORDER BY id"
    )
    try:
        return str(site.ask(query))
    except StoreError as error:
        return str(error)


def timed_problems(site: Site, names: Names, hour: datetime) -> list[str]:
    """Everything of the cron schedule that is not as it has to be; a run of an hour that has begun since may not have ended."""
    rows = site.ask(
        f"SELECT id, instant FROM pipelines.runs WHERE pipeline = '{names.timed}' AND instant <= '{hour.isoformat()}'"
    )
    found = problems(site, [int(str(number)) for number, _ in rows])
    return found if len(rows) == len({instant for _, instant in rows}) else [*found, "an instant was run twice"]


def problems(site: Site, run_ids: list[int]) -> list[str]:
    """Everything of these runs that is not as it has to be."""
    ids = ", ".join(map(str, run_ids))
    runs = site.ask(f"SELECT id, state, reason FROM pipelines.runs WHERE id IN ({ids}) AND ended_at IS NOT NULL")
    found = [f"run {run_id} ended {state}: {reason}" for run_id, state, reason in runs if state != State.SUCCEEDED]
    found += [f"run {each} is lost" for each in set(run_ids) - {int(str(row[0])) for row in runs}]
    steps = site.ask(
        "SELECT s.run_id, s.name, s.output_path, array_agg(a.output_path) FILTER (WHERE a.state = 'succeeded') "
        f"FROM pipelines.steps s LEFT JOIN pipelines.attempts a ON a.step_id = s.id WHERE s.run_id IN ({ids}) "
        "GROUP BY s.id ORDER BY s.id"
    )
    for run_id, step, output, succeeded in steps:
        if succeeded != [output]:
            found.append(f"step {step} of run {run_id} was published as {succeeded}, and points to {output}")
        elif not Path(str(output)).is_file():
            found.append(f"step {step} of run {run_id} has no output at {output}")
    left = site.ask(f"SELECT count(*) FROM pipelines.queue WHERE run_id IN ({ids})")
    return found if left == [(0,)] else [*found, f"{left} steps of ended runs are in the queue"]


def killed_problems(site: Site, crew: Crew, killed: Killed) -> list[str]:
    """What was wrong with attempts of a worker that was killed: taken over late, or more of their output lost."""
    attempts = site.ask(
        "SELECT id, output_path, extract(epoch FROM ended_at)::float8 FROM pipelines.attempts "
        f"WHERE state = 'lost' AND strpos(worker, '-{killed.pid}-') > 0"
    )
    found = []
    for number, path, ended in attempts:
        waited = float(str(ended)) - killed.at
        if float(str(ended)) > latest_take_over(crew, killed):
            found.append(f"attempt {number} was taken over {waited:.1f} s after its worker was killed")
        # One that was another's before the kill belonged to a worker that was stopped: nobody read what it printed.
        was_killed = float(str(ended)) > killed.at
        missing = seconds_lost(site, Path(str(path)), last_awake(crew, killed)) if path and was_killed else 0.0
        if missing > LOST_SECONDS:
            found.append(f"attempt {number} has lost the last {missing:.1f} s of its output")
    return found


def latest_take_over(crew: Crew, killed: Killed) -> float:
    """Until when what it ran has to be another's, in seconds since the epoch; later only when others were down then."""
    latest = killed.at + TAKE_OVER_SECONDS
    for each in sorted(crew.disturbances, key=lambda each: each.begin):
        if killed.at < each.end and each.begin <= latest:
            latest = max(latest, each.end + BACK_SECONDS)
    return latest


def last_awake(crew: Crew, killed: Killed) -> float:
    """Until when what a step has printed must be in its log: the kill, or a stop from which it had no time to come back."""
    until = killed.monotonic
    for pause in sorted(crew.pauses, key=lambda each: each.begin, reverse=True):
        if pause.pid == killed.pid and pause.begin < until < pause.end + LOST_SECONDS:
            until = pause.begin
    return until


def seconds_lost(site: Site, log: Path, until: float) -> float:
    """How much of what a step has printed until then is not in its log; a step says the same in a file of its own."""
    if not log.is_file():
        return 0.0
    events = [each for each in read_events(log, site.keys) if each.kind is Kind.OUTPUT]
    words = "".join(each.content.get("text", "") for each in events).split()
    if words[:1] != ["beside"] or len(words) < 2:
        return 0.0
    beside = site.folder / "beside" / words[1]
    said = [float(each) for each in beside.read_text().split() if float(each) <= until] if beside.exists() else []
    logged = [float(each) for each in words[2:]]
    return (said[-1] - (logged[-1] if logged else said[0])) if said else 0.0


def patiently(action: Callable[[], bool]) -> bool:
    """What *action* says; False while the faults are in its way."""
    try:
        return action()
    except WorkbenchError:
        return False


def main() -> None:
    """Run as many schedules as asked for; exit 1 when one found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    seeds, wrong, done, began = range(arguments.seed, arguments.seed + arguments.schedules), 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, running_site(Path(folder)) as site:
        os.chdir(folder)
        for first in range(0, len(seeds), AT_ONCE):
            schedules = [Schedule(seed) for seed in seeds[first : first + AT_ONCE]]
            found = run_wave(site, schedules)
            for each in schedules:
                wrong += bool(found[each.seed])
                print(f"WRONG    {each}: {found[each.seed]}" if found[each.seed] else f"right    {each}", flush=True)
            done += len(schedules)
            print(f"{done} of {len(seeds)} after {time.monotonic() - began:.0f} s, {wrong} wrong", flush=True)
    print(f"{arguments.schedules - wrong} of {arguments.schedules} schedules right, {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
