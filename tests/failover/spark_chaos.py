"""Seeded schedules of faults against flows that Spark brings, each ended by a proof.

    python -m tests.failover.spark_chaos --schedules 300 --seed 1

Schedules run in waves, side by side on one workbench. Each has a topic and a table of its own and
a lane in a process of its own, which is killed, interrupted or exchanged for the other lane when
its seed says so, as Python workers and connections are. Meanwhile the seed of the wave kills the
servers that all share: Spark, the database and the broker, alone and two at once. A schedule sends
its last records when the last of these runs again, so that all of them meet it. When the warehouse has all
offsets, `workbench verify` must find nothing missing and nothing doubled, and rows, dead letters and
what steps left out must add up to what was sent.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from tests.failover.chaos import (
    committed,
    end,
    end_backends,
    forget,
    keep_log,
    last_words,
    log_of,
    patiently,
    records,
    send,
    settings_of,
)
from tests.services.workbench import RunningWorkbench, make_home, running_workbench, wait_until
from workbench.flows import follow_flow
from workbench.ingestion.batch import BatchLimits
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import Flow, make_flow
from workbench.ingestion.topics import Topic, apply_topics
from workbench.inspection import verify_flow
from workbench.runtime.state import ComponentStatus, read_status
from workbench.settings import Settings
from workbench.spark_lane import lane

PARTITIONS = 4  # as `send` deals them out
AT_ONCE = 10
COLUMNS = {"n": "int64", "text": "string"}
ENDED_SECONDS = 480.0
LOOK_SECONDS = 1.0  # between questions: each costs connections to broker and warehouse
FAULTS = ("kill lane", "kill lane", "change lane", "interrupt lane", "kill python worker", "end backends")
# What falls together: the servers that are killed at one instant.
SERVER_FAULTS = (("spark",), ("warehouse",), ("kafka",), ("spark", "warehouse"), ("warehouse", "kafka"))
SERVERS_SECONDS = 600.0  # until the last server that was killed runs again


@dataclass
class Wave:
    """Schedules that share servers, and what happens to these."""

    workbench: RunningWorkbench
    over: threading.Event = field(default_factory=threading.Event)  #: no server is killed any more
    done: list[str] = field(default_factory=list)


@dataclass
class Schedule:
    """What happens to one flow."""

    seed: int
    rng: random.Random
    flows: tuple[Flow, ...]  #: the same for each of the lanes that take turns
    done: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"seed {self.seed}: {', '.join(self.done)}"


def make_schedule(workbench: RunningWorkbench, seed: int, *, steps: bool) -> Schedule:
    """A schedule with its topic, made before anything is killed: kafka-python leaves sockets behind where nobody answers."""
    rng = random.Random(seed)
    flows = flows_of(f"spark-chaos-{seed}-{uuid4().hex[:8]}", rng, steps=steps)
    connection = KafkaConnection.from_settings(settings_of(workbench).kafka)
    patiently(lambda: apply_topics(connection, [Topic(name=flows[0].topic, partitions=PARTITIONS)]))
    return Schedule(seed, rng, flows)


def run_schedule(wave: Wave, schedule: Schedule) -> None:
    """Run one schedule; raises AssertionError, with the schedule, when a record is lost or doubled."""
    rng, flows, home = schedule.rng, schedule.flows, wave.workbench.home
    settings = settings_of(wave.workbench)
    connection = KafkaConnection.from_settings(settings.kafka)
    limits, sent = BatchLimits(records=rng.choice([50, 200, 1000]), age_seconds=0.2, session_seconds=2.0), 0
    worker = start_worker(home, flows[0], limits)
    try:
        for _ in range(rng.randint(2, 4)):
            count = rng.randint(300, 1500)
            send(connection, flows[0].topic, records(rng, sent, count))
            sent += count
            time.sleep(rng.uniform(0.5, 3.0))  # the instant of the fault, not a wait for anything
            fault = rng.choice(FAULTS)
            schedule.done.append(fault)
            assert worker.is_alive(), f"a lane has ended by itself before {schedule}: {last_words(home, flows[0])}"
            flows, worker = inflict(fault, wave, flows, limits, worker, rng)
        wave.over.wait(SERVERS_SECONDS)
        send(connection, flows[0].topic, records(rng, sent, 100))  # after all that was killed
        sent += 100
        wait_until(
            lambda: committed(settings, flows[0]) == sent or not worker.is_alive(),
            ENDED_SECONDS,
            f"{sent} offsets of {schedule}; there are {committed(settings, flows[0])}",
            every_seconds=LOOK_SECONDS,
        )
        assert worker.is_alive(), f"a lane has ended by itself: {schedule}: {last_words(home, flows[0])}"
    finally:
        end(worker, signal.SIGKILL)
    reports = patiently(lambda: verify_flow(settings, flows[0]))
    assert all(each.is_right for each in reports), f"{schedule}: {reports}"
    found = sum(each.rows + each.dead + each.filtered for each in reports)
    assert found == sent, f"{schedule}: {found} of {sent}"
    patiently(lambda: forget(settings, flows[0]))
    log_of(home, flows[0]).unlink(missing_ok=True)


def flows_of(topic: str, rng: random.Random, *, steps: bool) -> tuple[Flow, ...]:
    """The same flow for each of the lanes that take turns; one with steps, if there may be any, has no other lane."""
    fields = {"topic": topic, "into": f"chaos.t_{uuid4().hex}", "columns": COLUMNS}
    if rng.random() < 0.3 and steps:
        return (make_flow(topic, {**fields, "engine": "spark", "steps": ["tests.failover.spark_chaos:odd"]}),)
    fields["contract"] = rng.choice(["ignore", "evolve", "freeze", "quarantine"])
    return tuple(make_flow(topic, {**fields, "engine": engine}) for engine in ("spark", "arrow"))


def odd(frame):
    """A step that leaves every second record out."""
    return frame.where("n % 2 = 1")


def inflict(
    fault: str, wave: Wave, flows: tuple[Flow, ...], limits: BatchLimits, worker: BaseProcess, rng: random.Random
) -> tuple[tuple[Flow, ...], BaseProcess]:
    """Do what the fault says; returns the flows, the next lane's first, and the worker that runs."""
    if fault == "kill python worker":
        kill_python_worker(wave.workbench, rng)
        return flows, worker
    if fault == "end backends":
        patiently(lambda: end_backends(wave.workbench))
        return flows, worker
    end(worker, signal.SIGTERM if fault == "interrupt lane" else signal.SIGKILL)
    if fault == "change lane":
        flows = (*flows[1:], flows[0])
    return flows, start_worker(wave.workbench.home, flows[0], limits)


def kill_python_worker(workbench: RunningWorkbench, rng: random.Random) -> None:
    """Kill one of the Python processes in which Spark's tasks run, whosever it is; none while Spark is away."""
    for listener in listeners(workbench, "spark"):
        try:
            children = psutil.Process(listener).children(recursive=True)
            workers = [each for each in children if "pyspark" in " ".join(each.cmdline())]
            if workers:
                rng.choice(workers).kill()
        except psutil.Error:
            continue  # it has gone by itself, or with Spark


def kill_servers(wave: Wave, rng: random.Random, faults: Sequence[Sequence[str]]) -> None:
    """Kill servers, one group after the other, each when the one before runs again."""
    try:
        for names in faults:
            time.sleep(rng.uniform(1.0, 4.0))  # the instant of the fault
            before = {name: component(wave.workbench, name).restarts for name in names}
            for pid in [pid for name in names for pid in listening(wave.workbench, name)]:
                os.kill(pid, signal.SIGKILL)
            wave.done.append(f"kill {' and '.join(names)}")
            for name, restarts in before.items():
                wait_until(
                    lambda n=name, r=restarts: is_back(wave.workbench, n, r),
                    240,
                    f"{name} to run again",
                    every_seconds=LOOK_SECONDS,
                )
    finally:
        wave.over.set()


def listening(workbench: RunningWorkbench, name: str) -> list[int]:
    """Its `listeners`, once there are any."""
    found: list[int] = []

    def look() -> list[int]:
        found[:] = listeners(workbench, name)
        return found

    wait_until(look, 240, f"{name} to listen", every_seconds=LOOK_SECONDS)
    return found


def is_back(workbench: RunningWorkbench, name: str, restarts: int) -> bool:
    """Whether a server that was killed listens again; Spark does before the supervisor has tried it with a query."""
    return component(workbench, name).restarts > restarts and bool(listeners(workbench, name))


def listeners(workbench: RunningWorkbench, name: str) -> list[int]:
    """The process that has the port of a server, whatever the supervisor thinks of it so far."""
    address = component(workbench, name).address.removeprefix("sc://")
    port = int(address.partition("/")[0].rpartition(":")[2])
    found = {each.pid for each in psutil.net_connections("tcp") if listens(each, port)}
    return sorted({server_of(pid, port) for pid in found if pid} - {None})


def listens(connection: Any, port: int) -> bool:
    return connection.status == psutil.CONN_LISTEN and connection.laddr.port == port


def server_of(pid: int, port: int) -> int | None:
    """The server that holds *port*, of which *pid* may be a child that has just been forked: it holds the port until
    it closes it, as a backend of PostgreSQL does, and the helper with which Java starts a Python worker.
    """
    try:
        process = psutil.Process(pid)
        while (parent := process.parent()) is not None and any(
            listens(each, port) for each in parent.net_connections("tcp")
        ):
            process = parent
        return process.pid
    except psutil.Error:
        return None  # the child has ended


def component(workbench: RunningWorkbench, name: str) -> ComponentStatus:
    """What the supervisor tells of a component, read from its file: the command would take a second of the processor."""

    def known() -> dict[str, ComponentStatus]:
        return {each.name: each for each in read_status(workbench.home).components}

    # A workbench that has just started has servers that it has not told of yet.
    wait_until(lambda: name in known(), 60, f"{name} to be told of", every_seconds=LOOK_SECONDS)
    return known()[name]


def start_worker(home: Path, flow: Flow, limits: BatchLimits) -> BaseProcess:
    """A process that follows the flow; forked from a server that has the modules loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.failover.spark_chaos", "pyspark.sql.connect.session", "grpc"])
    worker = context.Process(target=work, args=(home, flow, limits), daemon=True)
    worker.start()
    return worker


def work(home: Path, flow: Flow, limits: BatchLimits) -> None:
    """What a worker's process does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ["WORKBENCH_HOME"] = str(home)
    keep_log(home, flow)
    lane.LONGEST_WAIT_SECONDS = 2.0  # servers come back within seconds here
    follow_flow(Settings.load(), flow, lambda _: None, limits=limits)


def run_wave(workbench: RunningWorkbench, seeds: Sequence[int], *, steps: bool = True) -> list[str]:
    """Run schedules side by side while servers are killed; returns what went wrong."""
    wave, rng = Wave(workbench), random.Random(seeds[0])

    def attempt(schedule: Schedule) -> str:
        try:
            run_schedule(wave, schedule)
        except Exception as error:  # noqa: BLE001 - told with its seed at the end
            return f"{schedule}; servers: {', '.join(wave.done)}: {error!r}"
        print(f"right    {schedule}; servers: {', '.join(wave.done)}", flush=True)
        return ""

    schedules = [make_schedule(workbench, seed, steps=steps) for seed in seeds]
    with ThreadPoolExecutor(len(seeds)) as pool:
        found = [pool.submit(attempt, schedule) for schedule in schedules]
        kill_servers(wave, rng, server_faults(rng))
        return [told for each in found if (told := each.result())]


def server_faults(rng: random.Random) -> list[tuple[str, ...]]:
    """Each server once, in any order; sometimes two at once."""
    together = rng.choice([each for each in SERVER_FAULTS if len(each) > 1])
    alone = [(name,) for name in ("spark", "warehouse", "kafka") if name not in together]
    faults = [together, *alone]
    rng.shuffle(faults)
    return faults


def main() -> None:
    """Run as many schedules as asked for; exit 1 when one found a record lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.schedules)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder))
        for start in range(0, len(seeds), 3 * arguments.at_once):
            # The supervisor waits longer with every restart; a new one has forgotten them.
            with running_workbench(home) as workbench:
                for at in range(start, min(start + 3 * arguments.at_once, len(seeds)), arguments.at_once):
                    wrong += run_wave(workbench, seeds[at : at + arguments.at_once])
    print(*wrong, sep="\n")
    print(f"{len(seeds) - len(wrong)} of {len(seeds)} schedules right, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
