"""A standalone cluster of Spark on loopback: a master and workers from PySpark's own jars, with a secret."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.services.process_tree import arguments
from tests.services.workbench import wait_until
from workbench.answering import answers
from workbench.embedded.jars import pyspark_home
from workbench.embedded.java import find_java
from workbench.runtime.ports import LOOPBACK, any_free

UP_SECONDS = 150
EXECUTOR = {
    "spark.driver.host": LOOPBACK,
    "spark.driver.bindAddress": LOOPBACK,
    "spark.executor.cores": "1",
    "spark.executor.memory": "512m",
    "spark.sql.shuffle.partitions": "4",
}


@dataclass(frozen=True, kw_only=True)
class StandaloneCluster:
    """Where the master is, its secret, and its processes."""

    master_url: str
    secret: str = field(repr=False)
    folder: Path
    workers: Sequence[psutil.Process]

    def variables(self, conf: Path) -> dict[str, str]:
        """Settings of a workbench that use this cluster; its profile is written into *conf*."""
        write_profile(conf, "standalone", EXECUTOR)
        return {
            "SPARK_MASTER_URL": self.master_url,
            "WORKBENCH_SPARK_SECRET": self.secret,
            "WORKBENCH_SPARK_CONF_FOLDER": str(conf),
        }

    def executors(self) -> list[psutil.Process]:
        """Processes of the executors that run now."""
        found = [child for worker in self.workers if worker.is_running() for child in worker.children()]
        return [process for process in found if "CoarseGrainedExecutorBackend" in " ".join(arguments(process))]


def write_profile(folder: Path, name: str, values: dict[str, str]) -> None:
    """A profile of one's own that adds *values* to ours."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.conf").write_text("".join(f"{key} {value}\n" for key, value in values.items()))


@contextmanager
def running_standalone(folder: Path, workers: int = 2, cores: int = 1) -> Iterator[StandaloneCluster]:
    """Start a master and workers, wait until they know each other, and end them with their executors."""
    folder.mkdir()
    port, secret = any_free(), secrets.token_hex(16)
    master_url = f"spark://{LOOPBACK}:{port}"
    properties = folder / "cluster.properties"
    properties.touch(0o600)
    properties.write_text(
        f"spark.authenticate true\nspark.authenticate.secret {secret}\nspark.network.crypto.enabled true\n"
        "spark.network.crypto.authEngineVersion 2\nspark.network.crypto.saslFallback false\n"
        "spark.network.crypto.cipher AES/GCM/NoPadding\nspark.master.rest.enabled false\n"
        "spark.worker.timeout 10\n"
    )
    with ExitStack() as stack:
        log = folder / "master.log"
        address = ("--host", LOOPBACK, "--port", str(port), "--webui-port", str(any_free()))
        stack.enter_context(_daemon("master.Master", log, properties, *address))
        wait_until(lambda: answers(port), UP_SECONDS, "the master to answer")
        processes = [
            stack.enter_context(
                _daemon(
                    *("worker.Worker", folder / f"worker-{n}.log", properties, "--host", LOOPBACK, "--webui-port", str(any_free())),
                    *("--cores", str(cores), "--memory", "700m", "--work-dir", str(folder / f"work-{n}"), master_url),
                )
            )
            for n in range(workers)
        ]  # fmt: skip
        wait_until(lambda: log.read_text().count("Registering worker") == workers, UP_SECONDS, "the workers")
        yield StandaloneCluster(master_url=master_url, secret=secret, folder=folder, workers=processes)


@contextmanager
def _daemon(name: str, log: Path, properties: Path, *arguments: str) -> Iterator[psutil.Process]:
    java = find_java()
    environment = {
        **os.environ,
        "SPARK_HOME": str(pyspark_home()),
        "JAVA_HOME": str(java.home),
        "SPARK_SCALA_VERSION": "2.13",  # bin/load-spark-env.sh would say it
        "SPARK_LOCAL_IP": LOOPBACK,  # the web pages too
    }
    command = [
        *(str(java.executable), "-XX:+UseSerialGC", "-Xmx128m", *java.spark_options),
        *("-cp", f"{pyspark_home()}/jars/*", f"org.apache.spark.deploy.{name}"),
        *("--properties-file", str(properties), *arguments),
    ]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=log.parent
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it has started."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in psutil.wait_procs(children, 3)[1]:
        child.kill()
