"""kill -9 of Spark and of its driver while a flow runs, and a change of lane after it: every record is there, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from uuid import uuid4

import pytest

from tests.services.workbench import environment, is_running, wait_until
from workbench.flows import ingest_flow
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import Flow, make_flow
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.inspection import verify_flow
from workbench.settings import Settings

COUNT = 60_000
PARTITIONS = 3
FIELDS = {"columns": {"n": "int64"}}
FAULTS = ("driver", "spark", "warehouse")
# Small batches, so that the fault comes between the commits of one job.
PROGRAM = """
import sys
from workbench.flows import Limits, ingest_flow
from workbench.ingestion.definition import make_flow
from workbench.settings import Settings
topic, table = sys.argv[1:]
flow = make_flow("t", dict(topic=topic, into=table, columns=dict(n="int64"), engine="spark"))
ingest_flow(Settings.load(), flow, lambda _: None, limits=Limits(records=500))
"""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kills_under_the_spark_lane_lose_and_double_nothing(own_workbench, monkeypatch, seed):
    monkeypatch.setenv("WORKBENCH_HOME", str(own_workbench.home))
    settings, rng = Settings.load(), random.Random(seed)
    topic, table = f"t-{uuid4().hex}", f"s_{uuid4().hex}.rows"
    connection = KafkaConnection.from_settings(settings.kafka)
    apply_topics(connection, [Topic(name=topic, partitions=PARTITIONS)])
    flows = {
        each: make_flow("t", {"topic": topic, "into": table, "engine": each, **FIELDS}) for each in ("arrow", "spark")
    }
    produce(connection, topic, (OutgoingRecord(b'{"n":%d}' % n, partition=n % PARTITIONS) for n in range(COUNT)))
    faults = rng.sample(FAULTS, len(FAULTS))

    for fault in faults:
        break_off(own_workbench, settings, flows["spark"], fault, rows=rng.randrange(1, COUNT // 4))
    ingest_flow(settings, flows[rng.choice(list(flows))], lambda _: None)

    reports = verify_flow(settings, flows["spark"])
    assert all(each.is_right for each in reports), (seed, faults, reports)
    assert sum(each.rows for each in reports) == COUNT, (seed, faults, reports)


def break_off(workbench, settings: Settings, flow: Flow, fault: str, *, rows: int) -> None:
    """Run the flow in a process of its own, and kill something when so many more rows are there."""
    before = workbench.component(fault) if fault != "driver" else {"restarts": 0}
    already = written(settings, flow)
    command = [sys.executable, "-c", PROGRAM, flow.topic, flow.into]
    with subprocess.Popen(command, env=environment(workbench.home), stderr=subprocess.DEVNULL) as driver:
        wait_until(lambda: written(settings, flow) >= already + rows or driver.poll() is not None, 90, f"{rows} rows")
        os.kill(driver.pid if fault == "driver" else before["pid"], signal.SIGKILL)
        if fault == "driver":
            driver.wait(30)
        else:
            driver.wait(120)  # it waits for the server and goes on, or says why not
    if fault != "driver":
        wait_until(
            lambda: is_running(workbench, fault) and workbench.component(fault)["restarts"] > before["restarts"],
            90,
            f"{fault} to run again",
        )


def written(settings: Settings, flow: Flow) -> int:
    """Rows that the warehouse has; none while there is no table."""
    from workbench.errors import WorkbenchError

    try:
        return sum(each.rows for each in verify_flow(settings, flow))
    except WorkbenchError:
        return 0
