"""Starts Spark with a profile, asks its executors, and says what runs where and what is encrypted."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.answering import answers
from workbench.embedded.profiles import Profile, kind_of
from workbench.embedded.programs import make_spark
from workbench.embedded.spark import SparkConnectServer, run_client
from workbench.errors import ComponentError
from workbench.runtime.supervisor import Supervisor
from workbench.settings import Settings

WAIT_SECONDS = 90.0
VISIT_SECONDS = 120.0
REST_PORT = 6066
ON = "true"


@dataclass(frozen=True, kw_only=True)
class Executor:
    """One process that runs tasks, as it describes itself."""

    name: str
    host: str
    pid: int
    cores: str
    memory: str
    java: str
    python: str
    executable: str


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One way that data take, and how it is protected."""

    name: str
    is_safe: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found of one profile."""

    profile: str
    master: str
    application: str
    spark: str
    seconds: float  #: until the server had answered its first query
    executors: Sequence[Executor]
    hops: Sequence[Hop]


def check_spark(
    settings: Settings, profile: str = "", *, wait_seconds: float = WAIT_SECONDS, tell: Callable[[str], None]
) -> Report:
    """Start a server with a profile in a folder of its own, ask it, end it, and say what was found.

    Args:
        settings: where the cluster is.
        profile: its name; empty is that of the settings.
        wait_seconds: how long the first executor may take.
        tell: called with a sentence before something that takes long.

    Raises:
        ComponentError: when the server or its executors cannot be had, with what to do.
    """
    with tempfile.TemporaryDirectory(prefix="workbench-spark-check-") as name:
        folder = Path(name)
        server = make_spark(
            *(settings, folder / "spark"), log=folder / "spark.log", lock=folder / "run" / "spark.lock",
            profile=profile, first_query_seconds=wait_seconds, tell=tell,
        )  # fmt: skip
        tell(f"Starting Spark with the profile {server.profile.name}, master {server.profile.master_url}…")
        started = time.monotonic()
        with Supervisor(folder) as supervisor:
            supervisor.start([server])
            seconds = time.monotonic() - started
            tell(f"Spark answers after {seconds:.0f} s. Asking its executors…")
            found = ask(server)
    return make_report(server.profile, found, seconds)


def ask(server: SparkConnectServer) -> Mapping[str, Any]:
    """What a session of a running server says of itself and its executors."""
    try:
        printed = run_client(
            "workbench.transformation.visit", server.address, server.token, VISIT_SECONDS, lambda: None
        )
    except TimeoutError:
        raise ComponentError(
            f"the executors did not answer within {VISIT_SECONDS:.0f} s", remedy="See the cluster's own logs of them."
        ) from None
    found: Mapping[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def make_report(profile: Profile, found: Mapping[str, Any], seconds: float) -> Report:
    """Put together what a session has said."""
    conf = found["conf"]
    rest = [rest_of_master(profile.master_url)] if profile.kind == "standalone" else []
    return Report(
        profile=profile.name,
        master=conf.get("spark.master", profile.master_url),
        application=conf.get("spark.app.id", ""),
        spark=found["spark"],
        seconds=round(seconds, 1),
        executors=sorted((_executor(row, conf) for row in found["rows"]), key=lambda each: (each.name, each.pid)),
        hops=[*hops(conf), *rest],
    )


def _executor(row: Mapping[str, str], conf: Mapping[str, str]) -> Executor:
    options = dict(re.findall(r"--(executor-id|hostname|cores) (\S+)", row["command"]))
    is_driver = "executor-id" not in options
    return Executor(
        name="driver" if is_driver else options["executor-id"],
        host=options.get("hostname") or row["host"].partition("/")[0],
        pid=int(row["pid"]),
        cores=options.get("cores", conf.get("spark.master", "").removeprefix("local").strip("[]")),
        memory=conf.get("spark.driver.memory" if is_driver else "spark.executor.memory", "1g"),
        java=row["java"],
        python=row["python"],
        executable=row["executable"],
    )


def hops(conf: Mapping[str, str]) -> list[Hop]:
    """How each way that data take is protected, from the configuration of a running session."""
    kind = kind_of(conf.get("spark.master", "local[*]"))
    host = conf.get("spark.connect.grpc.binding.address", "0.0.0.0")  # noqa: S104 - Spark's default, compared
    is_local = host in {"127.0.0.1", "localhost"}
    return [
        Hop(
            name="notebook to Connect server",
            is_safe=is_local,
            detail=f"token; plain text on {host}" + (", which never leaves this machine" if is_local else ""),
            remedy="" if is_local else "Set spark.connect.grpc.binding.address to 127.0.0.1.",
        ),
        _rpc(conf, kind),
        _disk(conf),
        _ui(conf),
    ]


def rest_of_master(master_url: str) -> Hop:
    """Whether a standalone master listens for applications of anybody, at the port where Spark would have it."""
    hosts = [each.rpartition(":")[0] for each in master_url.removeprefix("spark://").split(",")]
    if not (open_ones := [host for host in hosts if answers(REST_PORT, host)]):
        return Hop(name="REST of the master", is_safe=True, detail=f"nothing answers on port {REST_PORT}")
    return Hop(
        name="REST of the master",
        is_safe=False,
        detail=f"{open_ones[0]}:{REST_PORT} answers; it takes applications from anybody, without a secret",
        remedy="Set spark.master.rest.enabled to false in the master's configuration.",
    )


def _rpc(conf: Mapping[str, str], kind: str) -> Hop:
    name = "driver to executors"
    if kind == "local":
        return Hop(name=name, is_safe=True, detail="one process, no network")
    if conf.get("spark.ssl.rpc.enabled") == ON:
        return Hop(name=name, is_safe=True, detail="TLS")
    lacking = [
        f"{key} {value}"
        for key, value in {
            "spark.authenticate": ON,
            "spark.network.crypto.enabled": ON,
            "spark.network.crypto.authEngineVersion": "2",
            "spark.network.crypto.saslFallback": "false",
            "spark.network.crypto.cipher": "AES/GCM/NoPadding",
        }.items()
        if conf.get(key) != value
    ]
    if not lacking:
        return Hop(name=name, is_safe=True, detail="shared secret, AES-GCM with 128 bit, no fallback")
    return Hop(
        name=name,
        is_safe=False,
        detail=f"lacks {', '.join(lacking)}",
        remedy="Add these lines to the profile, and to the configuration of a standalone cluster.",
    )


def _disk(conf: Mapping[str, str]) -> Hop:
    bits = conf.get("spark.io.encryption.keySizeBits", "128")
    if conf.get("spark.io.encryption.enabled") == ON:
        return Hop(name="shuffle and spill on disk", is_safe=True, detail=f"AES with {bits} bit")
    return Hop(
        name="shuffle and spill on disk",
        is_safe=False,
        detail="plain text",
        remedy="Set spark.io.encryption.enabled to true in the profile.",
    )


def _ui(conf: Mapping[str, str]) -> Hop:
    if conf.get("spark.ui.enabled", ON) != ON:
        return Hop(name="web UI of the application", is_safe=True, detail="off")
    if filters := conf.get("spark.ui.filters"):
        return Hop(name="web UI of the application", is_safe=True, detail=f"on, behind {filters}")
    return Hop(
        name="web UI of the application",
        is_safe=False,
        detail="on, plain text, without a login",
        remedy="Set spark.ui.enabled to false in the profile.",
    )
