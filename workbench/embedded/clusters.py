"""Whether Spark's cluster is there, asked before a server starts, and what its refusals in the log mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from workbench.answering import answers
from workbench.embedded.profiles import Profile
from workbench.errors import ClusterError

ANSWER_SECONDS = 3.0
LOG_BYTES = 1_000_000  # of one start, more than it ever writes
YARN_PORT = 8032
CONF_VARIABLES = ("HADOOP_CONF_DIR", "YARN_CONF_DIR")


@dataclass(frozen=True)
class Address:
    """Host and port of something that is asked whether it is there."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def check_cluster(profile: Profile) -> None:
    """Ask the master of *profile* whether it accepts connections; a few seconds at most.

    Raises:
        ClusterError: when it does not, or nothing says where it is.
    """
    if profile.kind == "local":
        return
    find: dict[str, Callable[[Profile], tuple[Sequence[Address], str, str]]] = {
        "standalone": _standalone, "yarn": _yarn, "kubernetes": _kubernetes
    }  # fmt: skip
    addresses, what, remedy = find[profile.kind](profile)
    with ThreadPoolExecutor(len(addresses)) as pool:
        if any(pool.map(lambda each: answers(each.port, each.host, ANSWER_SECONDS), addresses)):
            return
    raise ClusterError(f"{what} does not answer at {', '.join(map(str, addresses))}", remedy=remedy)


def conf_folders() -> list[Path]:
    """The folders of Hadoop's configuration, which Spark has on its class path for YARN."""
    return [Path(value) for name in CONF_VARIABLES if (value := os.environ.get(name))]


def _standalone(profile: Profile) -> tuple[Sequence[Address], str, str]:
    parts = [part.rpartition(":") for part in profile.master_url.removeprefix("spark://").split(",")]
    if not all(host and port.isdigit() for host, _, port in parts):
        raise ClusterError(
            f"SPARK_MASTER_URL is {profile.master_url!r}, without a host and a port",
            remedy="Write spark://host:7077; several masters as spark://one:7077,two:7077.",
        )
    remedy = "Start it, or correct SPARK_MASTER_URL; WORKBENCH_SPARK_PROFILE=local runs Spark on this machine."
    return [Address(host, int(port)) for host, _, port in parts], "the master of the standalone cluster", remedy


def _kubernetes(profile: Profile) -> tuple[Sequence[Address], str, str]:
    url = urlsplit(profile.master_url.removeprefix("k8s://"))
    if not url.hostname:
        raise ClusterError(
            f"SPARK_MASTER_URL is {profile.master_url!r}, without the address of an API server",
            remedy="Write k8s://https://host:6443.",
        )
    port = url.port or (80 if url.scheme == "http" else 443)
    return [Address(url.hostname, port)], "the API server of Kubernetes", "Start it, or correct SPARK_MASTER_URL."


def _yarn(_: Profile) -> tuple[Sequence[Address], str, str]:
    folders = conf_folders()
    if not folders:
        raise ClusterError(
            "YARN is found through HADOOP_CONF_DIR or YARN_CONF_DIR, and neither is set",
            remedy="Set one to the folder with yarn-site.xml, in the environment of `workbench up`.",
        )
    files = [folder / "yarn-site.xml" for folder in folders]
    present = [file for file in files if file.is_file()]
    if not present:
        raise ClusterError(
            f"there is no {' and no '.join(map(str, files))}",
            remedy="Copy yarn-site.xml and core-site.xml of the cluster there, or correct HADOOP_CONF_DIR.",
        )
    addresses = resource_managers(read_site(present[0]))
    if not addresses:
        raise ClusterError(
            f"{present[0]} does not say where the ResourceManager is",
            remedy="Set yarn.resourcemanager.hostname in it.",
        )
    return addresses, "YARN's ResourceManager", f"Start it, or correct {present[0]}."


def read_site(file: Path) -> dict[str, str]:
    """The properties of one of Hadoop's XML files, `${…}` of the same file filled in.

    Raises:
        ClusterError: when it is no XML.
    """
    try:
        root = ET.parse(file).getroot()  # noqa: S314 - of whoever runs this, as a program's configuration
    except ET.ParseError as error:
        raise ClusterError(f"{file} cannot be read: {error}", remedy="Correct the XML.") from None
    values = {each.findtext("name", "").strip(): each.findtext("value", "").strip() for each in root.iter("property")}
    return {name: re.sub(r"\$\{([^}]+)\}", lambda m: values.get(m[1], m[0]), value) for name, value in values.items()}


def resource_managers(site: dict[str, str]) -> list[Address]:
    """Where the ResourceManagers are that a yarn-site.xml names, those of high availability too."""
    names = [name.strip() for name in site.get("yarn.resourcemanager.ha.rm-ids", "").split(",") if name.strip()]
    found = []
    for suffix in [f".{name}" for name in names] or [""]:
        host = site.get(f"yarn.resourcemanager.hostname{suffix}", "")
        address = site.get(f"yarn.resourcemanager.address{suffix}") or (f"{host}:{YARN_PORT}" if host else "")
        name, _, port = address.rpartition(":")
        if name and port.isdigit() and name != "0.0.0.0":  # noqa: S104 - Hadoop's "not set"
            found.append(Address(name, int(port)))
    return found


class StartLog:
    """What a server has written since its last start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = 0

    def mark(self) -> None:
        """A start begins: what stands there now is of an earlier one."""
        self._start = self._path.stat().st_size if self._path.exists() else 0

    def text(self) -> str:
        """What was written since."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._start)
                return file.read(LOG_BYTES).decode(errors="replace")
        except OSError:
            return ""


def find_refusal(log: str, profile: Profile) -> ClusterError | None:
    """What a start's log says of a cluster that refuses, as an error with the setting to change."""
    for pattern, explain in REFUSALS:
        if found := re.search(pattern, log):
            message, remedy = explain(found, profile)
            return ClusterError(message, remedy=remedy)
    return None


def _too_much(found: re.Match[str], profile: Profile) -> tuple[str, str]:
    who, memory, most = found[1], found[2], found[3]
    setting = "SPARK_EXECUTOR_MEMORY" if who == "executor" else "spark.yarn.am.memory"
    value = profile.values.get("spark.executor.memory") if who == "executor" else profile.values.get(setting, "512m")
    return (
        f"{setting} is {value}, but a container of this YARN has at most {most} MB, what Spark adds to the {memory} MB included",
        f"Lower {setting}, or let YARN's administrator raise yarn.scheduler.maximum-allocation-mb.",
    )


def _secret(_: re.Match[str], profile: Profile) -> tuple[str, str]:
    return (
        f"the master at {profile.master_url} does not accept our secret",
        "Set WORKBENCH_SPARK_SECRET to the spark.authenticate.secret of the cluster, and look that its spark.network.crypto properties are those of spark_conf/standalone.conf.",
    )


def _queue(found: re.Match[str], profile: Profile) -> tuple[str, str]:
    queue = profile.values.get("spark.yarn.queue", "default")
    return (
        f"YARN did not accept us in the queue {queue!r}: {found[0].strip()[:300]}",
        "Set WORKBENCH_SPARK_QUEUE to a queue that you may use.",
    )


def _killed(found: re.Match[str], profile: Profile) -> tuple[str, str]:
    return (
        f"the cluster at {profile.master_url} ended our application: {found[1].strip()[:300]}",
        "Its executors do not start: see their logs (stderr) on the cluster's nodes; Java 17 or later and the same Spark have to be there.",
    )


def _lost_master(_: re.Match[str], profile: Profile) -> tuple[str, str]:
    return (
        f"the master at {profile.master_url} answers, but does not take us in",
        "See the log of the Spark server, and that of the master.",
    )


REFUSALS: Sequence[tuple[str, Callable[[re.Match[str], Profile], tuple[str, str]]]] = (
    (r"Required (executor|AM) memory \((\d+)(?: MB)?\).*?above the max threshold \((\d+) MB\)", _too_much),
    (r"Application \S+ submitted by user \S+ to (?:unknown|non-leaf|parent) queue[^\n]*", _queue),
    (r"(?:AccessControlException|Failed to submit application)[^\n]*queue[^\n]*", _queue),
    (
        r"AEADBadTagException|Mac check failed|Challenge response|Authentication failed|[Uu]nable to authenticate",
        _secret,
    ),
    (r"Application has been killed\. Reason: ([^\n]*)", _killed),
    (r"All masters are unresponsive! Giving up", _lost_master),
)
