"""A Spark Connect server on loopback that lets in only who knows its token."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench.answering import answers
from workbench.embedded.asking import Asking
from workbench.embedded.clusters import StartLog, check_cluster, conf_folders, find_refusal
from workbench.embedded.jars import pyspark_home
from workbench.embedded.java import Java, file_names
from workbench.embedded.profiles import APP_NAME, Profile
from workbench.embedded.spark_readiness import spark_obstacle
from workbench.embedded.spark_ui import SparkUI
from workbench.errors import ClusterError, ComponentError
from workbench.resources import resource
from workbench.runtime.ports import LOOPBACK
from workbench.runtime.process import Launch
from workbench.security.secrets import private_folder, write_private

SERVER_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"
ENDPOINT_FILE = "endpoint.json"
FAILURE_FILE = "failure.txt"  # beside it, when the server could not be started; session.py reads both
WARM_UP_SECONDS = 120.0
POLL_SECONDS = 0.5
NO_EXECUTORS = (
    "Initial job has not accepted any resources"  # what Spark logs after spark.starvation.timeout without one
)
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
    profile: Profile
    start_log: StartLog = field(repr=False, compare=False)
    first_query_seconds: float = WARM_UP_SECONDS
    training: Path | None = None  #: where the archive of classes is written when this server ends
    asking: Asking = field(default_factory=Asking, repr=False, compare=False)

    start_seconds = 120.0

    @property
    def address(self) -> str:
        """What a client dials; the token goes only to the literal `localhost` over plaintext."""
        return f"sc://localhost:{self.port}"

    @property
    def endpoint_file(self) -> Path:
        """A file of mode 0600 with the address and the token, there while the server is ready."""
        return self.folder / ENDPOINT_FILE

    @property
    def archive_name(self) -> str:
        """Of the archive for this Java and these jars, without its size."""
        shipped = sorted((file.name, file.stat().st_size) for file in (pyspark_home() / "jars").glob("*.jar"))
        java = self.java.executable.resolve()
        parts = (*map(str, self.jars), pyspark_home(), shipped, java, self.java.version, java.stat().st_mtime_ns)
        return f"spark-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"

    def find_archive(self) -> Path | None:
        """The archive of classes beside the jars, when workbench.embedded.archive has made it and it is whole."""
        folders = {jar.parent.parent for jar in self.jars}
        found = [file for folder in folders for file in folder.glob(f"{self.archive_name}-*.jsa")]
        # The JVM leaves one aside that does not fit, but crashes on one that is too short.
        return next((file for file in found if file.stem.endswith(f"-{file.stat().st_size}")), None)

    def prepare(self) -> Launch:
        """Ask the cluster whether it is there, and write the properties of this server."""
        check_cluster(self.profile)
        self.start_log.mark()
        private_folder(self.folder)
        self.endpoint_file.unlink(missing_ok=True)
        properties = self.folder / "spark.properties"
        write_private(properties, self._properties())
        return Launch(
            argv=(
                *(
                    str(self.java.executable),
                    *JVM_OPTIONS,
                    *self._archive_options(),
                    f"-Xmx{self.profile.values['spark.driver.memory']}",
                    *self.java.spark_options,
                ),
                *(
                    f"-Dlog4j2.configurationFile={resource('spark_conf') / 'log4j2.properties'}",
                    f"-Djava.io.tmpdir={self._scratch}",
                ),
                *("-cp", self._class_path()),
                *(
                    "org.apache.spark.deploy.SparkSubmit",
                    "--class",
                    SERVER_CLASS,
                    "--name",
                    self.profile.values[APP_NAME],
                ),
                *("--properties-file", str(properties), "spark-internal"),
            ),
            environment=self._environment(),
            log=self.log,
            lock=self.lock,
            folder=self.folder,
            stop_seconds=5.0,
        )

    def is_healthy(self) -> bool:
        """Whether the gRPC port accepts connections; ClusterError once the log says that it never will."""
        if answers(self.port):
            return True
        self._raise_refusal()
        return False

    def obstacle(self) -> str:
        """That it does not tell its version to who has the token, however well its port takes connections."""
        return self.asking.ask(lambda: spark_obstacle(self.address, self.token))

    def complete(self) -> None:
        """Run the first query, which takes ten times as long as the next, then publish the endpoint."""
        try:
            warm_up(self.address, self.token, self.first_query_seconds, self._raise_refusal)
        except TimeoutError:
            raise self._no_answer() from None
        write_private(self.endpoint_file, json.dumps({"remote": self.address, "token": self.token}))

    def _archive_options(self) -> tuple[str, ...]:
        if self.training:
            return (f"-XX:ArchiveClassesAtExit={self.training}",)
        archive = self.find_archive()
        return (f"-XX:SharedArchiveFile={archive}",) if archive else ()

    @property
    def _scratch(self) -> Path:
        return private_folder(self.folder / "scratch")

    def _class_path(self) -> str:
        # Ours first: a newer driver than PySpark's own wins. Spark reads YARN's addresses from the class path;
        # what an archive was made with has to be its beginning.
        hadoop = conf_folders() if self.profile.kind == "yarn" else []
        return ":".join([*map(str, self.jars), f"{pyspark_home()}/jars/*", *map(str, hadoop)])

    def _environment(self) -> Mapping[str, str]:
        return {
            **file_names(os.environ),
            "SPARK_HOME": str(pyspark_home()),
            "JAVA_HOME": str(self.java.home),
            "SPARK_CONNECT_AUTHENTICATE_TOKEN": self.token,
            # Python functions of a query run in workers of this environment, not of the system's python3.
            "PYSPARK_PYTHON": self.profile.own.get("spark.pyspark.python", sys.executable),
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            **({} if self.profile.is_cluster else {"SPARK_LOCAL_IP": LOOPBACK}),
        }

    def _properties(self) -> str:
        own = {
            "spark.connect.grpc.binding.address": LOOPBACK,
            "spark.connect.grpc.binding.port": str(self.port),
            **(self.ui.properties() if self.ui else {}),
            "spark.local.dir": str(self._scratch),
            "spark.sql.warehouse.dir": str(self.folder / "tables"),
        }
        if self.profile.is_cluster and self.jars:
            # Executors fetch them from here; the driver has them on its class path.
            own["spark.jars"] = ",".join(map(str, self.jars))
        return self.profile.render(own)

    def _raise_refusal(self) -> None:
        if refusal := find_refusal(self.start_log.text(), self.profile):
            raise refusal

    def _no_answer(self) -> ComponentError:
        seconds = f"{self.first_query_seconds:.0f} s"
        if self.profile.is_cluster and NO_EXECUTORS in self.start_log.text():
            memory = self.profile.values["spark.executor.memory"]
            cores = self.profile.values.get("spark.executor.cores", "all")
            return ClusterError(
                f"the cluster at {self.profile.master_url} took us in, but has given no executor within {seconds}",
                remedy=f"It may be busy, or no node has {memory} of memory and {cores} cores free: see its web page, lower SPARK_EXECUTOR_MEMORY or spark.executor.cores, or name another WORKBENCH_SPARK_QUEUE.",
            )
        return ComponentError(
            f"Spark at {self.address} did not answer its first query within {seconds}",
            remedy="Close other programs and try again; SPARK_DRIVER_MEMORY sets the heap.",
        )


def warm_up(
    remote: str, token: str, seconds: float = WARM_UP_SECONDS, check: Callable[[], None] = lambda: None
) -> None:
    """Run a first query in a process of its own, so that nobody keeps the memory of a client for it.

    Args:
        remote: address of the server.
        token: its token.
        seconds: how long the query may take.
        check: called while it runs; what it raises ends the wait.

    Raises:
        ComponentError: when the server does not answer it.
        TimeoutError: when it did not within *seconds*.
    """
    run_client("workbench.transformation.warm_up", remote, token, seconds, check)


def run_client(module: str, remote: str, token: str, seconds: float, check: Callable[[], None] = lambda: None) -> str:
    """Run *module* as a client of a server and return what it printed; raises as `warm_up` does."""
    environment = {**os.environ, "WORKBENCH_SPARK_REMOTE": remote, "WORKBENCH_SPARK_TOKEN": token}
    # In JupyterLab it leads kernels to this very server, which has no endpoint file before it is warm.
    environment.pop("WORKBENCH_SPARK_ENDPOINT_FILE", None)
    deadline = time.monotonic() + seconds
    with subprocess.Popen(
        [sys.executable, "-P", "-m", module], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as client:
        try:
            while True:
                try:
                    printed, errors = client.communicate(timeout=POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    check()
                if time.monotonic() > deadline:
                    raise TimeoutError
        finally:
            client.kill()
    if client.returncode:
        raise ComponentError(
            f"Spark at {remote} failed its first query:\n{errors[-1500:]}",
            remedy="See the log of the Spark server.",
        )
    return printed
