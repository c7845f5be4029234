"""Seeded schedules of faults against a flow that two workers share, each ended by a proof.

    python -m tests.failover.chaos --schedules 1000 --seed 1

A schedule makes a topic of four partitions, sends records while it goes (some broken, some with
new fields), starts two workers in processes of their own, and does to them, to the broker and to
the database what its seed says. When the warehouse has all offsets, `workbench verify` must find
nothing missing and nothing doubled, and rows and dead letters must add up to what was sent.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import sqlalchemy as sa

from tests.services.workbench import RunningWorkbench, make_home, running_workbench, wait_until
from workbench.errors import WorkbenchError
from workbench.flows import follow_flow
from workbench.ingestion.batch import BatchLimits
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import Flow, make_flow
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.inspection import lag_of_flows, verify_flow
from workbench.settings import Settings
from workbench.warehouse.engine import make_engine

T = TypeVar("T")

PARTITIONS = 4
SERVERS_EVERY = 5
COLUMNS = {"n": "int64", "text": "string"}
ENDED_SECONDS = 120.0
PATIENCE_SECONDS = 60.0
WORKER_FAULTS = ("kill worker", "kill both", "stop worker", "third worker", "end backends", "interrupt worker")
SERVER_FAULTS = ("kill broker", "kill warehouse")


@dataclass
class Schedule:
    """What happens to one flow."""

    seed: int
    servers: bool  #: whether the broker and the database are killed, too
    done: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"seed {self.seed}: {', '.join(self.done)}"


def run_schedule(workbench: RunningWorkbench, schedule: Schedule) -> None:
    """Run one schedule; raises AssertionError, with the schedule, when a record is lost or doubled."""
    rng = random.Random(schedule.seed)
    settings = settings_of(workbench)
    connection = KafkaConnection.from_settings(settings.kafka)
    name = f"chaos-{schedule.seed}-{uuid4().hex[:8]}"
    fields = {"topic": name, "into": f"chaos.t_{uuid4().hex}", "columns": COLUMNS}
    flow = make_flow(name, {**fields, "contract": rng.choice(["ignore", "evolve", "freeze", "quarantine"])})
    patiently(lambda: apply_topics(connection, [Topic(name=name, partitions=PARTITIONS)]))
    limits = BatchLimits(records=rng.choice([50, 200, 1000]), age_seconds=0.2, session_seconds=2.0)
    workers = [start_worker(workbench.home, flow, limits) for _ in range(2)]
    sent = 0
    try:
        for _ in range(rng.randint(2, 4)):
            count = rng.randint(500, 4000)
            send(connection, name, records(rng, sent, count))
            sent += count
            time.sleep(rng.uniform(0.0, 0.8))  # the instant of the fault, not a wait for anything
            fault = rng.choice(WORKER_FAULTS if not schedule.servers else (*WORKER_FAULTS, *SERVER_FAULTS * 3))
            schedule.done.append(fault)
            workers = inflict(fault, workbench, flow, limits, workers, rng)
        wait_until(
            lambda: committed(settings, flow) == sent or ended(workers), ENDED_SECONDS, f"{sent} offsets of {schedule}"
        )
        assert not ended(workers), f"a worker has ended by itself: {schedule}: {last_words(workbench.home, flow)}"
    finally:
        for worker in workers:
            end(worker, signal.SIGKILL)
    reports = patiently(lambda: verify_flow(settings, flow))
    assert all(each.is_right for each in reports), f"{schedule}: {reports}"
    found = sum(each.rows + each.dead for each in reports)
    assert found == sent, f"{schedule}: {found} of {sent}"
    patiently(lambda: forget(settings, flow))
    log_of(workbench.home, flow).unlink(missing_ok=True)


def ended(workers: list[BaseProcess]) -> bool:
    """Whether a worker is gone that nobody has ended: no fault is reason enough for that."""
    return not all(worker.is_alive() for worker in workers)


def inflict(
    fault: str,
    workbench: RunningWorkbench,
    flow: Flow,
    limits: BatchLimits,
    workers: list[BaseProcess],
    rng: random.Random,
) -> list[BaseProcess]:
    """Do what the fault says; returns the workers that are left, at least two."""
    assert not ended(workers), f"a worker has ended by itself before {fault}: {last_words(workbench.home, flow)}"
    victim = rng.choice(workers)
    if fault in {"kill worker", "kill both", "interrupt worker"}:
        for worker in workers if fault == "kill both" else [victim]:
            end(worker, signal.SIGTERM if fault == "interrupt worker" else signal.SIGKILL)
    elif fault == "stop worker":
        # Past the session timeout: it wakes up and believes that it still owns its partitions.
        os.kill(victim.pid or 0, signal.SIGSTOP)
        time.sleep(rng.uniform(2.5, 4.0))
        os.kill(victim.pid or 0, signal.SIGCONT)
    elif fault == "third worker":
        workers = [*workers, start_worker(workbench.home, flow, limits)]
    elif fault == "end backends":
        patiently(lambda: end_backends(workbench))
    else:
        name = "kafka" if fault == "kill broker" else "warehouse"
        patiently(lambda: os.kill(workbench.component(name)["pid"], signal.SIGKILL))
    alive = [worker for worker in workers if worker.is_alive()]
    return [*alive, *(start_worker(workbench.home, flow, limits) for _ in range(2 - len(alive)))]


def end_backends(workbench: RunningWorkbench) -> None:
    """End every connection to the database, in the midst of whatever it does."""
    with disposed(make_engine(settings_of(workbench).warehouse)) as engine, engine.connect() as connection:
        mine = "application_name = 'workbench' AND pid <> pg_backend_pid()"
        connection.execute(sa.text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}"))


@contextmanager
def disposed(engine: sa.Engine) -> Iterator[sa.Engine]:
    """The engine; no connection of it is left open, whatever happens."""
    try:
        yield engine
    finally:
        engine.dispose()


def patiently(action: Callable[[], T]) -> T:
    """Do what the harness itself needs, however often another schedule's faults are in the way."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return action()
        except (WorkbenchError, sa.exc.DBAPIError, ProcessLookupError, TypeError):  # no pid while it starts again
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def records(rng: random.Random, start: int, count: int) -> list[bytes]:
    """Records with their number; one in fifty is broken, one in fifty has a field that is new."""
    made = []
    for number in range(start, start + count):
        draw = rng.random()
        if draw < 0.02:
            made.append(rng.choice([b"{broken", b'{"n":"x"}', b"\xff\x00", b"[]", b'{"n":1,"n":2}', b""]))
        elif draw < 0.04:
            made.append(b'{"n":%d,"text":"t","extra_%d":%d}' % (number, number % 3, number))
        else:
            made.append(b'{"n":%d,"text":"row %d"}' % (number, number))
    return made


def send(connection: KafkaConnection, topic: str, values: list[bytes]) -> None:
    """Send the records; a broker that was killed is waited for. What may have arrived twice has two offsets."""
    patiently(connection.check)
    produce(connection, topic, [OutgoingRecord(value, partition=n % PARTITIONS) for n, value in enumerate(values)])


def committed(settings: Settings, flow: Flow) -> int:
    """Offsets that the warehouse has; -1 while something does not answer."""
    try:
        return sum(each.next_offset for _, _, lags in lag_of_flows(settings, flow) for each in lags)
    except WorkbenchError:
        return -1


def start_worker(home: Path, flow: Flow, limits: BatchLimits) -> BaseProcess:
    """A process that follows the flow; forked from a server that has the modules loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.failover.chaos"])
    worker = context.Process(target=work, args=(home, flow, limits), daemon=True)
    worker.start()
    return worker


def work(home: Path, flow: Flow, limits: BatchLimits) -> None:
    """What a worker's process does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ["WORKBENCH_HOME"] = str(home)
    keep_log(home, flow)
    follow_flow(Settings.load(), flow, lambda _: None, limits=limits)


def keep_log(home: Path, flow: Flow) -> None:
    """Write what this process tells into the file of the flow, unless somebody is watching (`CHAOS_LOG`)."""
    if os.environ.get("CHAOS_LOG") is None:
        os.dup2(os.open(log_of(home, flow), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 2)


def log_of(home: Path, flow: Flow) -> Path:
    """What the processes of a flow have told."""
    return home / f"{flow.topic}.chaos.log"


def last_words(home: Path, flow: Flow) -> str:
    """The end of what the processes of a flow have told: a worker that ends by itself says why."""
    log = log_of(home, flow)
    return log.read_text(errors="replace")[-2000:] if log.exists() else ""


def end(worker: BaseProcess, number: signal.Signals) -> None:
    """Signal a worker and wait for its end."""
    if worker.is_alive():
        os.kill(worker.pid or 0, number)
    worker.join(30)


def forget(settings: Settings, flow: Flow) -> None:
    """Drop what a schedule has left, so that a thousand of them do not fill the disk."""
    with disposed(make_engine(settings.warehouse)) as engine, engine.begin() as connection:
        # Another schedule may kill the database between a commit and its answer: then this is done twice.
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {flow.into}"))
        connection.execute(sa.text("DELETE FROM chaos.dead_letters WHERE topic = :topic"), {"topic": flow.topic})
        connection.execute(sa.text("DELETE FROM workbench.offsets WHERE topic = :topic"), {"topic": flow.topic})


def settings_of(workbench: RunningWorkbench) -> Settings:
    """Settings that lead to a running workbench."""
    os.environ["WORKBENCH_HOME"] = str(workbench.home)
    return Settings.load()


def run_schedules(workbench: RunningWorkbench, schedules: list[Schedule], at_once: int) -> list[str]:
    """Run schedules side by side; returns what went wrong."""

    def attempt(schedule: Schedule) -> str:
        try:
            run_schedule(workbench, schedule)
        except Exception as error:  # noqa: BLE001 - told with its seed at the end
            return f"{schedule}: {error!r}"
        print(f"right    {schedule}", flush=True)
        return ""

    with ThreadPoolExecutor(at_once) as pool:
        return [found for found in pool.map(attempt, schedules) if found]


def main() -> None:
    """Run as many schedules as asked for; exit 1 when one found a record lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=3)
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.schedules)
    schedules = [Schedule(seed, servers=seed % SERVERS_EVERY == 0) for seed in seeds]
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder))
        with running_workbench(home, until="hub") as workbench:
            wrong = run_schedules(workbench, [each for each in schedules if not each.servers], arguments.at_once)
        for schedule in schedules:
            if schedule.servers:
                # A workbench gives up a server that ends five times within five minutes.
                with running_workbench(home, until="hub") as workbench:
                    wrong += run_schedules(workbench, [schedule], 1)
    print(*wrong, sep="\n")
    print(f"{len(schedules) - len(wrong)} of {len(schedules)} schedules right, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
