"""A real YARN on loopback: a ResourceManager and NodeManagers from Maven Central, fetched as tests/services/yarn.lock says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import httpx

from tests.services.spark_standalone import EXECUTOR, end, write_profile
from tests.services.workbench import ROOT, wait_until
from workbench.embedded.jars import ensure_jars, pyspark_jars, read_lock
from workbench.embedded.java import Java, find_java
from workbench.runtime.ports import LOOPBACK, any_free

UP_SECONDS = 180
MAXIMUM_MB = 1536
QUEUES = ("default", "reports")
CONFIGURED = "org.apache.hadoop.yarn.server.resourcemanager.scheduler.capacity"


@dataclass(frozen=True, kw_only=True)
class YarnCluster:
    """Where YARN is: its folder of configuration, and the web page of the ResourceManager."""

    conf: Path
    web: str
    folder: Path

    def variables(self, conf: Path) -> dict[str, str]:
        """Settings of a workbench that use this cluster; its profile is written into *conf*."""
        # The jars lie on the same disk: nothing is copied into a staging folder.
        write_profile(conf, "yarn", {**EXECUTOR, "spark.yarn.jars": f"local:{pyspark_jars()}/*"})
        return {"SPARK_MASTER_URL": "yarn", "HADOOP_CONF_DIR": str(self.conf), "WORKBENCH_SPARK_CONF_FOLDER": str(conf)}

    def applications(self) -> list[dict[str, object]]:
        """What the ResourceManager knows of applications, those that have ended too."""
        found = httpx.get(f"{self.web}/ws/v1/cluster/apps", timeout=10).json()["apps"]
        return found["app"] if found else []


@contextmanager
def running_yarn(folder: Path, nodes: int = 2) -> Iterator[YarnCluster]:
    """Start a ResourceManager and NodeManagers, and end them with their containers."""
    folder.mkdir()
    jars = ensure_jars(
        ROOT / ".workbench" / "cache",
        read_lock(Path(__file__).with_name("yarn.lock")),
        repository=os.environ.get("WORKBENCH_EMBEDDED_JARS_REPOSITORY", ""),
    )["yarn"]
    java, web = find_java(), any_free()
    names = ("address", "scheduler.address", "resource-tracker.address", "admin.address")
    site = {
        **{f"yarn.resourcemanager.{name}": f"{LOOPBACK}:{any_free()}" for name in names},
        "yarn.resourcemanager.hostname": LOOPBACK,
        "yarn.resourcemanager.webapp.address": f"{LOOPBACK}:{web}",
        "yarn.resourcemanager.scheduler.class": f"{CONFIGURED}.CapacityScheduler",
        "yarn.scheduler.minimum-allocation-mb": "128",
        "yarn.scheduler.maximum-allocation-mb": str(MAXIMUM_MB),
        "yarn.nodemanager.resource.memory-mb": "4096",
        "yarn.nodemanager.resource.cpu-vcores": "4",
        "yarn.nodemanager.vmem-check-enabled": "false",
        "yarn.nodemanager.disk-health-checker.enable": "false",
        # Several NodeManagers on one host have other ports and folders.
        "yarn.nodemanager.hostname": LOOPBACK,
        "yarn.nodemanager.bind-host": LOOPBACK,
    }
    conf = folder / "conf"
    _write(conf, site)
    cluster = YarnCluster(conf=conf, web=f"http://{LOOPBACK}:{web}", folder=folder)
    with ExitStack() as stack:
        manager = folder / "resourcemanager"
        daemons = {manager: stack.enter_context(_daemon("resourcemanager.ResourceManager", manager, conf, jars, java))}
        # A NodeManager that finds no ResourceManager waits a minute before it asks again.
        wait_until(lambda: _all_run(daemons) and _nodes(cluster.web) is not None, UP_SECONDS, "the ResourceManager")
        for n in range(nodes):
            own = folder / f"node-{n}"
            _write(own / "conf", {**site, **_node(own)})
            daemons[own] = stack.enter_context(_daemon("nodemanager.NodeManager", own, own / "conf", jars, java))
        try:
            wait_until(lambda: _all_run(daemons) and _nodes(cluster.web) == nodes, UP_SECONDS, "the NodeManagers")
        except AssertionError as error:
            error.add_note("\n".join(_last_words(each) for each in daemons))
            raise
        yield cluster


def _all_run(daemons: Mapping[Path, subprocess.Popen[bytes]]) -> bool:
    for folder, process in daemons.items():
        assert process.poll() is None, f"it ended with {process.returncode}\n{_last_words(folder)}"
    return True


def _last_words(folder: Path, lines: int = 30) -> str:
    return f"{folder.name}:\n" + "\n".join((folder / "daemon.log").read_text(errors="replace").splitlines()[-lines:])


def _node(folder: Path) -> dict[str, str]:
    # It takes any port and tells the ResourceManager which.
    ports = ("address", "localizer.address", "webapp.address")
    return {
        **{f"yarn.nodemanager.{name}": f"{LOOPBACK}:0" for name in ports},
        "yarn.nodemanager.local-dirs": str(folder / "local"),
        "yarn.nodemanager.log-dirs": str(folder / "logs"),
    }


def _nodes(web: str) -> int | None:
    try:
        return int(httpx.get(f"{web}/ws/v1/cluster/metrics", timeout=5).json()["clusterMetrics"]["activeNodes"])
    except (httpx.HTTPError, KeyError, ValueError):
        return None


def _write(conf: Path, site: Mapping[str, str]) -> None:
    conf.mkdir(parents=True)
    capacity = {
        "yarn.scheduler.capacity.root.queues": ",".join(QUEUES),
        "yarn.scheduler.capacity.maximum-am-resource-percent": "0.9",
    }
    for queue in QUEUES:
        capacity[f"yarn.scheduler.capacity.root.{queue}.capacity"] = str(100 // len(QUEUES))
        capacity[f"yarn.scheduler.capacity.root.{queue}.maximum-capacity"] = "100"
        capacity[f"yarn.scheduler.capacity.root.{queue}.user-limit-factor"] = "4"
    files = {
        "yarn-site.xml": site,
        "capacity-scheduler.xml": capacity,
        "core-site.xml": {"fs.defaultFS": "file:///", "hadoop.tmp.dir": str(conf.parent / "tmp")},
    }
    for name, values in files.items():
        properties = "".join(
            f"<property><name>{k}</name><value>{escape(v)}</value></property>" for k, v in values.items()
        )
        (conf / name).write_text(f"<configuration>{properties}</configuration>")


@contextmanager
def _daemon(name: str, folder: Path, conf: Path, jars: Sequence[Path], java: Java) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(exist_ok=True)
    command = [
        *(str(java.executable), "-XX:+UseSerialGC", "-Xmx192m", *java.spark_options),
        *("-cp", ":".join(map(str, [conf, *jars])), f"org.apache.hadoop.yarn.server.{name}"),
    ]
    environment = {
        **os.environ,
        "JAVA_HOME": str(java.home),
        "HADOOP_CONF_DIR": str(conf),
        # Nothing of Hadoop is unpacked here, and its shell script for this is not needed.
        "HADOOP_HOME": str(folder),
        "HADOOP_YARN_HOME": str(folder),
    }
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
        )
    try:
        yield process
    finally:
        end(process)
