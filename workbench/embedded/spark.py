"""A Spark Connect server on loopback that lets in only who knows its token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.embedded.jars import pyspark_home
from workbench.embedded.java import Java
from workbench.embedded.spark_ui import SparkUI
from workbench.errors import ComponentError
from workbench.resources import resource
from workbench.runtime.ports import LOOPBACK, answers
from workbench.runtime.process import Launch
from workbench.security.secrets import private_folder, write_private

SERVER_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"
ENDPOINT_FILE = "endpoint.json"
FAILURE_FILE = "failure.txt"  # beside it, when the server could not be started; session.py reads both
WARM_UP_SECONDS = 120
# Serial collection has the smallest footprint and start; a driver's heap is small.
JVM_OPTIONS = ("-XX:+UseSerialGC", "-Xms128m", "-XX:ReservedCodeCacheSize=192m")


@dataclass(frozen=True, kw_only=True)
class SparkConnectServer:
    """A Connect server of one user; its driver runs here, its executors where the master says."""

    name: str
    folder: Path  #: work folder of this server: configuration, scratch space, endpoint file
    log: Path
    lock: Path
    java: Java
    jars: Sequence[Path]  #: beyond those that PySpark ships
    ui: SparkUI | None = None  #: off without
    port: int
    token: str = field(repr=False)
    master_url: str
    driver_memory: str
    executor_memory: str

    start_seconds = 120.0

    @property
    def address(self) -> str:
        """What a client dials; the token goes only to the literal `localhost` over plaintext."""
        return f"sc://localhost:{self.port}"

    @property
    def endpoint_file(self) -> Path:
        """A file of mode 0600 with the address and the token, there while the server is ready."""
        return self.folder / ENDPOINT_FILE

    def prepare(self) -> Launch:
        """Write the properties of this server from spark_conf/base.conf and the profile of the master."""
        private_folder(self.folder)
        self.endpoint_file.unlink(missing_ok=True)
        properties = self.folder / "spark.properties"
        write_private(properties, self._properties())
        return Launch(
            argv=(
                *(str(self.java.executable), *JVM_OPTIONS, f"-Xmx{self.driver_memory}", *self.java.spark_options),
                *(
                    f"-Dlog4j2.configurationFile={resource('spark_conf') / 'log4j2.properties'}",
                    f"-Djava.io.tmpdir={self._scratch}",
                ),
                *("-cp", self._class_path()),
                *("org.apache.spark.deploy.SparkSubmit", "--class", SERVER_CLASS, "--name", f"workbench-{self.name}"),
                *("--properties-file", str(properties), "spark-internal"),
            ),
            environment=self._environment(),
            log=self.log,
            lock=self.lock,
            folder=self.folder,
            stop_seconds=5.0,
        )

    def is_healthy(self) -> bool:
        """Whether the gRPC port accepts connections."""
        return answers(self.port)

    def complete(self) -> None:
        """Run the first query, which takes ten times as long as the next, then publish the endpoint."""
        warm_up(self.address, self.token)
        write_private(self.endpoint_file, json.dumps({"remote": self.address, "token": self.token}))

    @property
    def _scratch(self) -> Path:
        return private_folder(self.folder / "scratch")

    def _class_path(self) -> str:
        # Ours first: a newer driver than PySpark's own wins.
        return ":".join([*map(str, self.jars), f"{pyspark_home()}/jars/*"])

    def _environment(self) -> Mapping[str, str]:
        return {
            "SPARK_HOME": str(pyspark_home()),
            "JAVA_HOME": str(self.java.home),
            "SPARK_CONNECT_AUTHENTICATE_TOKEN": self.token,
            # Python functions of a query run in workers of this environment, not of the system's python3.
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            **({"SPARK_LOCAL_IP": LOOPBACK} if self.master_url.startswith("local") else {}),
        }

    def _properties(self) -> str:
        profiles = ["base.conf", f"{profile_of(self.master_url)}.conf"]
        texts = [(resource("spark_conf") / name).read_text(encoding="utf-8") for name in profiles]
        own = {
            "spark.master": self.master_url,
            "spark.driver.memory": self.driver_memory,
            "spark.executor.memory": self.executor_memory,
            "spark.connect.grpc.binding.address": LOOPBACK,
            "spark.connect.grpc.binding.port": str(self.port),
            **(self.ui.properties() if self.ui else {}),
            "spark.local.dir": str(self._scratch),
            "spark.sql.warehouse.dir": str(self.folder / "tables"),
        }
        return "\n".join([*texts, *(f"{key} {value}" for key, value in own.items())]) + "\n"


def profile_of(master_url: str) -> str:
    """The profile in spark_conf/ that belongs to a master.

    Raises:
        ComponentError: when no profile does.
    """
    for prefix, profile in {"local": "local", "spark://": "standalone", "yarn": "yarn", "k8s://": "kubernetes"}.items():
        if master_url.startswith(prefix):
            return profile
    raise ComponentError(
        f"SPARK_MASTER_URL is {master_url!r}, which is no master of Spark",
        remedy="Set it to local[*], spark://host:7077, yarn or k8s://https://host:6443.",
    )


def warm_up(remote: str, token: str) -> None:
    """Run a first query in a process of its own, so that nobody keeps the memory of a client for it.

    Raises:
        ComponentError: when the server does not answer it.
    """
    command = [sys.executable, "-m", "workbench.transformation.warm_up"]
    environment = {**os.environ, "WORKBENCH_SPARK_REMOTE": remote, "WORKBENCH_SPARK_TOKEN": token}
    # In JupyterLab it leads kernels to this very server, which has no endpoint file before it is warm.
    environment.pop("WORKBENCH_SPARK_ENDPOINT_FILE", None)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=WARM_UP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ComponentError(
            f"Spark at {remote} did not answer its first query within {WARM_UP_SECONDS} s",
            remedy="Close other programs and try again; SPARK_DRIVER_MEMORY sets the heap.",
        ) from None
    if done.returncode:
        raise ComponentError(
            f"Spark at {remote} failed its first query:\n{done.stderr[-1500:]}",
            remedy="See the log of the Spark server.",
        )
