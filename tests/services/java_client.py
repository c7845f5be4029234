"""Kafka's Java client as Spark ships it, without Spark: does it take the options of `for_spark`?"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

from tests.services.workbench import ROOT
from workbench.embedded.jars import ensure_jars, pyspark_jars, read_lock
from workbench.embedded.java import find_java

ANSWER_MILLISECONDS = "10000"


def cluster_id(options: Mapping[str, str]) -> str:
    """Ask the cluster for its id with options of Spark's Kafka source; raises Py4JJavaError."""
    jars = [*_connector_jars(), *pyspark_jars().glob("*.jar")]
    port, token, process = launch_gateway(
        jarpath=str(next(pyspark_jars().glob("py4j-*.jar"))),
        classpath=":".join(map(str, jars)),
        java_path=str(find_java().executable),
        javaopts=["-Xmx128m"],
        die_on_exit=True,
        enable_auth=True,
        return_proc=True,
        redirect_stderr=subprocess.DEVNULL,
        redirect_stdout=subprocess.DEVNULL,
    )
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token))
    try:
        properties = gateway.jvm.java.util.HashMap()
        for name, value in options.items():
            properties.put(name.removeprefix("kafka."), value)
        for name in ("default.api.timeout.ms", "request.timeout.ms"):
            properties.put(name, ANSWER_MILLISECONDS)
        client = gateway.jvm.org.apache.kafka.clients.admin.AdminClient.create(properties)
        found = str(client.describeCluster().clusterId().get())
        client.close()
        return found
    finally:
        gateway.shutdown()
        process.stdin.close()  # it ends with its input
        process.wait(30)


def _connector_jars() -> list[Path]:
    jars = [jar for jar in read_lock() if jar.server == "spark"]
    return ensure_jars(ROOT / ".workbench" / "jars", jars)["spark"]
