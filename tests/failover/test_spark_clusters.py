"""kill -9 of an executor, and of a worker node, in the midst of a query: the answer is right all the same."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.services.spark_standalone import StandaloneCluster, running_standalone
from tests.services.workbench import make_home, wait_until
from workbench.embedded.programs import make_spark
from workbench.runtime.supervisor import Supervisor
from workbench.sections import SparkSettings
from workbench.settings import Settings
from workbench.transformation.session import connect

pytestmark = [
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.timeout(600),  # a cluster starts first
]

ROWS, TASKS = 40_000, 20
QUERY_SECONDS = 180


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneCluster]:
    with running_standalone(tmp_path_factory.mktemp("standalone") / "cluster") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def spark(cluster, tmp_path_factory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("server")
    found = cluster.variables(folder / "conf")
    found |= {"SPARK_DRIVER_MEMORY": "512m", "WORKBENCH_HOME": str(make_home(folder))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        server = make_spark(
            *(Settings.load(embedded=False), folder / "spark"),
            log=folder / "spark.log", lock=folder / "run" / "spark.lock", first_query_seconds=240,
        )  # fmt: skip
        with Supervisor(folder) as supervisor:
            supervisor.start([server])
            remote = SparkSettings(WORKBENCH_SPARK_REMOTE=server.address, WORKBENCH_SPARK_TOKEN=server.token)
            session = connect(remote, new=True)
            yield session
            session.stop()


def answer_while(spark: Any, folder: Path, happens: Callable[[], None]) -> list[tuple[int, int]]:
    """Run a query with a shuffle and a Python function, let something happen when tasks run, return the answer."""

    def slow(batches):
        import time

        for batch in batches:
            (folder / f"{time.monotonic_ns()}").touch()
            time.sleep(0.5)
            yield batch

    frame = spark.range(0, ROWS, 1, TASKS).mapInArrow(slow, "id long").selectExpr("id % 5 AS five", "id")
    found: list[Any] = []
    query = threading.Thread(target=lambda: found.append(frame.groupBy("five").count().orderBy("five").collect()))
    query.start()
    wait_until(lambda: len(list(folder.iterdir())) >= 3, 60, "tasks that run")
    happens()
    query.join(QUERY_SECONDS)
    assert not query.is_alive(), "the query hangs"
    return [tuple(row) for row in found[0]]


def test_a_query_outlives_its_executor_and_then_a_worker_node(spark, cluster, tmp_path):
    expected = [(n, ROWS // 5) for n in range(5)]
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    wait_until(lambda: len(cluster.executors()) == 2, 60, "two executors")
    victim = cluster.executors()[0]

    assert answer_while(spark, first, lambda: victim.send_signal(signal.SIGKILL)) == expected

    assert not victim.is_running()
    wait_until(lambda: len(cluster.executors()) == 2, 60, "the executor that takes its place")

    node, left = cluster.workers[0], cluster.workers[1]
    executors = node.children()

    assert answer_while(spark, second, lambda: node.send_signal(signal.SIGKILL)) == expected

    _, alive = psutil.wait_procs(executors, 60)
    assert alive == []
    assert len(cluster.executors()) == len(left.children()) == 1
