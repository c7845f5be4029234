"""Spark, lanes, Python workers, the database and the broker killed under flows that Spark brings: every record is there, once."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from tests.conftest import needs
from tests.failover.chaos import patiently
from tests.failover.spark_chaos import run_wave
from tests.services.workbench import is_running, wait_until
from workbench.errors import SparkError, WorkbenchError
from workbench.flows import ingest_flow
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import Flow, make_flow
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.inspection import verify_flow
from workbench.runtime.ports import any_free
from workbench.settings import Settings

pytestmark = pytest.mark.alone

WAVE = 10


@pytest.fixture
def settings(own_workbench, monkeypatch) -> Settings:
    """Those of a workbench whose servers may be killed, when its Spark answers."""
    monkeypatch.setenv("WORKBENCH_HOME", str(own_workbench.home))
    wait_until(lambda: is_running(own_workbench, "spark"), 120, "Spark to answer")
    return Settings.load()


@pytest.mark.timeout(1200)
def test_schedules_of_faults_lose_and_double_nothing(own_workbench, settings):
    # `make chaos` has more of them, and flows with steps: beside nine others these take minutes on two cores.
    assert run_wave(own_workbench, range(1, 1 + WAVE), steps=False) == []


def flow_with_records(settings: Settings, count: int, **fields: object) -> Flow:
    topic = f"t-{uuid4().hex}"
    connection = KafkaConnection.from_settings(settings.kafka)
    patiently(lambda: apply_topics(connection, [Topic(name=topic, partitions=1)]))
    produce(connection, topic, (OutgoingRecord(b'{"n":%d}' % n, partition=0) for n in range(count)))
    into, columns = f"s_{uuid4().hex}.rows", {"n": "int64"}
    return make_flow(topic, {"topic": topic, "into": into, "columns": columns, "engine": "spark", **fields})


def test_a_server_that_is_away_and_a_wrong_token_are_told_within_seconds(settings):
    flow = flow_with_records(settings, 1)
    away = {"remote": f"sc://localhost:{any_free()}"}
    wrong = {"token": SecretStr("wrong")}
    import_module("pyspark.sql.connect.session")  # takes seconds of its own

    for change, told in ((away, "nothing answers at"), (wrong, "refused the session")):
        started = time.monotonic()
        with pytest.raises(SparkError, match=told):
            ingest_flow(settings.model_copy(update={"spark": settings.spark.model_copy(update=change)}), flow, print)
        assert time.monotonic() - started < 40


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Put a file system of a few pages over *folder*, with the same folders in it: Spark remembers which it has made."""
    names = {each.name for each in folder.iterdir()}
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder], check=True)
    try:
        for name in names:
            (folder / name).mkdir()
        yield
    finally:
        made = {each.name for each in folder.iterdir()} - names
        subprocess.run(["umount", "--lazy", folder], check=True)
        for name in made:
            (folder / name).mkdir()


def test_a_full_disk_for_shuffles_ends_a_flow_with_steps_and_the_next_run_goes_on(own_workbench, settings):
    needs(os.geteuid() == 0, "root, for a file system of a few pages")
    flow = flow_with_records(settings, 20_000, steps=["tests.failover.spark_chaos:odd"])
    managers = [each for each in Path(own_workbench.home / "spark" / "scratch").rglob("blockmgr-*") if each.is_dir()]
    newest = max(managers, key=lambda each: each.stat().st_mtime)

    with full_disk(newest), pytest.raises(WorkbenchError, match="No space left on device"):
        ingest_flow(settings, flow, lambda _: None)

    assert ingest_flow(settings, flow, lambda _: None).rows == 10_000
    assert all(each.is_right for each in verify_flow(settings, flow))
