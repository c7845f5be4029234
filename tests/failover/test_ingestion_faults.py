"""kill -9 of the database and of the broker while a flow runs: every record is there, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from uuid import uuid4

import pytest

import workbench
from tests.services.workbench import environment, is_running, wait_until
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.settings import Settings

COUNT = 60_000
COLUMNS = {"n": "int64"}


@pytest.mark.parametrize("name", ["warehouse", "kafka"])
def test_a_server_killed_under_a_flow_loses_and_doubles_nothing(own_workbench, monkeypatch, name):
    monkeypatch.setenv("WORKBENCH_HOME", str(own_workbench.home))
    connection = KafkaConnection.from_settings(Settings.load().kafka)
    topic, table = f"t-{uuid4().hex}", f"s_{uuid4().hex}.rows"
    apply_topics(connection, [Topic(name=topic, partitions=3)])
    produce(connection, topic, (OutgoingRecord(b'{"n":%d}' % n, partition=n % 3) for n in range(COUNT)))
    program = (
        "from workbench import Settings; from workbench.flows import ingest_flow, BatchLimits;"
        "from workbench.ingestion.definition import make_flow;"
        f"flow = make_flow('t', dict(topic={topic!r}, into={table!r}, columns={COLUMNS!r}));"
        "ingest_flow(Settings.load(), flow, lambda k: print(k, flush=True), limits=BatchLimits(records=500))"
    )
    before = own_workbench.component(name)

    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment(own_workbench.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        for _ in range(10):
            process.stdout.readline()
        os.kill(before["pid"], signal.SIGKILL)
        process.communicate()

    wait_until(
        lambda: is_running(own_workbench, name) and own_workbench.component(name)["restarts"] > before["restarts"],
        90,
        f"{name} to run again",
    )
    workbench.ingest(topic, into=table, columns=COLUMNS)
    assert int(workbench.sql(f"SELECT count(*) FROM {table}").iloc[0, 0]) == COUNT
    assert int(workbench.sql(f"SELECT count(DISTINCT n) FROM {table}").iloc[0, 0]) == COUNT
