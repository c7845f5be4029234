"""Real servers that are frozen are not ready, though the system still takes connections for them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.services.workbench import wait_until
from workbench.answering import answers
from workbench.embedded.activity import runs_operation, thread_names
from workbench.embedded.spark_readiness import spark_obstacle
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.readiness import check_cluster, cluster_obstacle

SEEN_SECONDS = 60.0  # a good answer counts for 15, a look is each five, and a question takes five


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Processes that do nothing, and do not end either."""
    for pid in pids:
        psutil.Process(pid).send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            psutil.Process(pid).send_signal(signal.SIGCONT)


def test_both_say_that_they_can_work_and_spark_stays_idle(shared_workbench, settings):
    remote, token = settings.spark.remote, settings.spark.token.get_secret_value()
    connection = KafkaConnection.from_settings(settings.kafka)

    def is_idle() -> bool:
        return not runs_operation(thread_names(shared_workbench.component("spark")["pid"]))

    wait_until(lambda: spark_obstacle(remote, token) == "", SEEN_SECONDS, "Spark to tell its version")
    wait_until(is_idle, SEEN_SECONDS, "what others have asked of it to end")
    assert "refuses to tell its version" in spark_obstacle(remote, "another")
    assert "refuses to tell its version" in spark_obstacle(remote, "")
    wait_until(lambda: cluster_obstacle(connection) == "", SEEN_SECONDS, "the cluster to tell that it can work")
    check_cluster(connection)


@pytest.mark.timeout(180)
def test_what_is_frozen_is_told_not_to_be_ready_and_is_ready_once_it_goes_on(shared_workbench, settings):
    names = ("kafka", "spark")
    pids = [shared_workbench.component(name)["pid"] for name in names]
    connection = KafkaConnection.from_settings(settings.kafka)

    def ready(name: str) -> bool:
        return bool(shared_workbench.component(name)["ready"])

    def tells(name: str, reason: str) -> bool:
        component = shared_workbench.component(name)
        return not component["ready"] and reason in component["reason"]

    # One after the other: what is frozen for longer than it is waited for would be started anew.
    with frozen(pids[0]):
        assert cluster_obstacle(connection, seconds=1) == "it does not answer within 1 s"
        # One that was asked just before for its partitions is told of in other words first.
        told = "it did not answer a health check within"
        wait_until(lambda: tells("kafka", told), SEEN_SECONDS, "`workbench status` to tell of it")
    with frozen(pids[1]):
        assert answers(int(settings.spark.remote.rpartition(":")[2]))
        found = spark_obstacle(settings.spark.remote, settings.spark.token.get_secret_value(), seconds=1)
        assert found == "it does not answer within 1 s"
        told = "it does not answer within 5 s"
        wait_until(lambda: tells("spark", told), SEEN_SECONDS, "`workbench status` to tell of it")
        spark = shared_workbench.component("spark")
    assert (spark["state"], spark["live"]) == ("running", True)
    wait_until(lambda: all(map(ready, names)), SEEN_SECONDS, "both to be ready again")
    assert [shared_workbench.component(name)["pid"] for name in names] == pids
