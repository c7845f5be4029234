"""A real broker with a listener for each way to be let in, and for each way to be refused."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.certificates import Authority
from tests.services.workbench import ROOT, wait_until
from workbench.embedded.jars import ensure_jars, read_lock
from workbench.embedded.java import find_java
from workbench.embedded.kafka import JVM_OPTIONS, LOG4J, new_cluster_id
from workbench.runtime.ports import any_free

UP_SECONDS = 60
USER, PASSWORD = "somebody", 'pass"word\\of=it'
ALLOWED_URLS = "org.apache.kafka.sasl.oauthbearer.allowed.urls"

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=1
num.io.threads=2
ssl.keystore.type=PEM
ssl.truststore.type=PEM
ssl.truststore.location={authority}
ssl.keystore.location={store}
"""


@dataclass(frozen=True)
class Listener:
    """One way into the broker: its security protocol and the properties of its own."""

    protocol: str
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KafkaCluster:
    """A broker that answers on every listener."""

    ports: Mapping[str, int]
    authority: Authority

    def address(self, listener: str) -> str:
        return f"localhost:{self.ports[listener]}"


def ways_in(authority: Authority) -> dict[str, Listener]:
    """Listeners that differ in what they show and what they ask for."""

    def showing(name: str, **options: object) -> Listener:
        return Listener("SSL", {"ssl.keystore.location": str(authority.issue(name, **options).store)})

    escaped = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{escaped}";'
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    passwords = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        # Backslashes are an escape of the properties file too.
        "plain.sasl.jaas.config": plain.replace("\\", "\\\\"),
        "scram-sha-256.sasl.jaas.config": scram,
        "scram-sha-512.sasl.jaas.config": scram,
    }
    return {
        "plaintext": Listener("PLAINTEXT"),
        "tls": Listener("SSL"),
        "mutual": Listener("SSL", {"ssl.client.auth": "required"}),
        "expired": showing("expired", days=-1),
        "elsewhere": showing("elsewhere", host="kafka.example.com"),
        "passwords": Listener("SASL_SSL", passwords),
        "scram": Listener("SASL_SSL", passwords | {"sasl.enabled.mechanisms": "SCRAM-SHA-512"}),
    }


def token_listener(*, keys_url: str, audience: str) -> dict[str, Listener]:
    """A listener that takes tokens (KIP-768), beside the plaintext one of the broker itself."""
    login = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
    handler = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
    properties = {
        "sasl.enabled.mechanisms": "OAUTHBEARER",
        "oauthbearer.sasl.jaas.config": login,
        "oauthbearer.sasl.server.callback.handler.class": handler,
        "oauthbearer.sasl.oauthbearer.jwks.endpoint.url": keys_url,
        "oauthbearer.sasl.oauthbearer.expected.audience": audience,
    }
    return {"plaintext": Listener("PLAINTEXT"), "tokens": Listener("SASL_SSL", properties)}


@contextmanager
def running_cluster(
    folder: Path, authority: Authority, listeners: Mapping[str, Listener], *java_options: str
) -> Iterator[KafkaCluster]:
    """Start the broker on loopback, wait until every listener accepts, and stop it at the end."""
    folder.mkdir()
    cluster = KafkaCluster({name: any_free() for name in listeners}, authority)
    configuration = folder / "server.properties"
    configuration.write_text(_properties(folder, cluster, listeners))
    (folder / "log4j2.properties").write_text(LOG4J)
    java = (*_java(folder), *java_options)
    users = [f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]" for bits in (256, 512)]
    _format(java, folder, users)
    with (folder / "kafka.log").open("wb") as log:
        process = subprocess.Popen([*java, "kafka.Kafka", str(configuration)], stdout=log, stderr=log, cwd=folder)
    try:
        wait_until(
            lambda: process.poll() is not None or all(_accepts(port) for port in cluster.ports.values()),
            UP_SECONDS,
            "the broker to listen",
        )
        assert process.poll() is None, (folder / "kafka.log").read_text()[-3000:]
        yield cluster
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
        shutil.rmtree(folder / "data", ignore_errors=True)


def kafka_jars() -> list[Path]:
    """The jars of the broker, those of the checkout, fetched once."""
    repository = os.environ.get("WORKBENCH_EMBEDDED_JARS_REPOSITORY", "")
    jars = [jar for jar in read_lock() if jar.server == "kafka"]
    return ensure_jars(ROOT / ".workbench" / "jars", jars, repository=repository)["kafka"]


def _java(folder: Path) -> tuple[str, ...]:
    logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    class_path = ":".join(map(str, kafka_jars()))
    return (str(find_java().executable), *JVM_OPTIONS, logging, "-cp", class_path)


def _properties(folder: Path, cluster: KafkaCluster, listeners: Mapping[str, Listener]) -> str:
    own = [
        f"listener.name.{name}.{key}={value}"
        for name, listener in listeners.items()
        for key, value in listener.properties.items()
    ]
    common = PROPERTIES.format(
        controller=any_free(),
        listeners=",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in cluster.ports.items()),
        advertised=",".join(f"{name.upper()}://localhost:{port}" for name, port in cluster.ports.items()),
        protocols=",".join(f"{name.upper()}:{listener.protocol}" for name, listener in listeners.items()),
        data=folder / "data",
        authority=cluster.authority.file,
        store=cluster.authority.issue("broker").store,
    )
    return "\n".join([common, *own, ""])


def _format(java: tuple[str, ...], folder: Path, users: list[str]) -> None:
    arguments = ["format", "--standalone", "--cluster-id", new_cluster_id(), "--config", "server.properties"]
    for user in users:
        arguments += ["--add-scram", user]
    done = subprocess.run(
        [*java, "kafka.tools.StorageTool", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=UP_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
