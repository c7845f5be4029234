"""An Apache Kafka broker on loopback: one KRaft node, TLS, SCRAM, deny by default."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_connection

from pydantic import SecretStr

from workbench.embedded.asking import Asking
from workbench.embedded.java import Java, file_names
from workbench.errors import ComponentError, DataFolderError
from workbench.ingestion.cluster.broker_certificate import take_certificate
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.readiness import cluster_obstacle
from workbench.runtime.ports import LOOPBACK
from workbench.runtime.process import Launch
from workbench.security.certificates import CertificateFiles, ensure_certificates
from workbench.security.secrets import ensure_token, private_folder, write_private

USER = "workbench"
BROKER_USER = "broker"
FORMAT_SECONDS = 60
# Enough for the demo and tens of partitions; the serial collector's footprint is the smallest.
JVM_OPTIONS = ("-Xms96m", "-Xmx384m", "-XX:+UseSerialGC", "-Djava.awt.headless=true")

UNFIT = frozenset(",:\n")  # what ends a folder in a list of Kafka's, or in Java's class path
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={host}:{controller_port}
listeners=CLIENT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=CLIENT://localhost:{port},CONTROLLER://localhost:{controller_port}
listener.security.protocol.map=CLIENT:SASL_SSL,CONTROLLER:SASL_SSL
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
log.dirs={data}

ssl.keystore.type=PEM
ssl.keystore.location={server_certificate}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
ssl.enabled.protocols=TLSv1.3,TLSv1.2

# SCRAM cannot bootstrap a controller: its users are in the metadata that the controller serves.
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
sasl.mechanism.controller.protocol=PLAIN
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="{broker_user}" password="{broker_password}";
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="{broker_user}" password="{broker_password}" user_{broker_user}="{broker_password}";

authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{broker_user};User:{user}
allow.everyone.if.no.acl.found=false
auto.create.topics.enable=false

# One node: a replication factor of one, and internal topics no larger than one machine needs.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# Nobody waits for a second consumer on a laptop.
group.initial.rebalance.delay.ms=0
# A worker that died is noticed as soon as its flow asks for, not after six seconds at the least.
group.min.session.timeout.ms=1000
# The warehouse keeps the offsets; the broker keeps a week of records, as Kafka does by default.
log.retention.hours=168
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
controlled.shutdown.max.retries=1
"""

LOG4J = """\
status = warn
name = kafka
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX}{UTC} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


@dataclass(frozen=True, kw_only=True)
class KafkaBroker:
    """The embedded broker: files under `home`, listening on two loopback ports."""

    home: Path  #: WORKBENCH_HOME
    java: Java
    jars: Sequence[Path]
    port: int
    controller_port: int

    asking: Asking = field(default_factory=Asking, repr=False, compare=False)

    name = "kafka"
    user = USER
    start_seconds = 60.0

    @property
    def address(self) -> str:
        """Bootstrap server of the cluster."""
        return f"localhost:{self.port}"

    @property
    def folder(self) -> Path:
        """Configuration and data of the broker."""
        return self.home / "kafka"

    @property
    def lock(self) -> Path:
        """Locked while the broker runs."""
        return self.home / "run" / "kafka.lock"

    @property
    def certificates(self) -> CertificateFiles:
        """The authority that clients trust, and the broker's certificate."""
        return CertificateFiles.of(self.home / "keys" / "kafka")

    def ensure_certificates(self) -> None:
        """Make them, or renew the broker's before it expires."""
        ensure_certificates(self.home / "keys" / "kafka")

    def renew(self) -> bool:
        """Make the certificate anew before it expires, and have the broker show it."""
        self.ensure_certificates()
        return take_certificate(self.connection, (LOOPBACK, self.port), self.certificates.server)

    @property
    def password(self) -> str:
        """Password of the user `workbench`."""
        return ensure_token(self.home / "keys" / "kafka-password")

    def prepare(self) -> Launch:
        """Write the configuration and format the data folder when there is none."""
        private_folder(self.folder)
        self.ensure_certificates()
        if unfit := sorted({*str(self.home)} & UNFIT):
            raise DataFolderError(
                f"Kafka takes {self.home} for more than one folder, because of {' and '.join(unfit)}",
                remedy="Set WORKBENCH_HOME to a folder without it, or rename the folder.",
            )
        self._write_configuration(self.folder / "server.properties", self.data)
        if not self.data.exists():
            self._format()
        elif not (self.data / "meta.properties").is_file():
            raise DataFolderError(
                f"{self.data} is no Kafka data folder: meta.properties is missing",
                remedy="Move the folder away to start with an empty broker, or restore it from a backup.",
            )
        return Launch(
            argv=(*self._java_command(), "kafka.Kafka", str(self.folder / "server.properties")),
            environment=file_names(os.environ),
            log=self.home / "logs" / "kafka.log",
            lock=self.lock,
            folder=self.folder,
            stop_seconds=15.0,
        )

    @property
    def data(self) -> Path:
        """The log directory of the broker."""
        return self.folder / "data"

    def is_healthy(self) -> bool:
        """Whether the client listener completes a TLS handshake with our certificate."""
        try:
            context = ssl.create_default_context(cafile=str(self.certificates.authority))
            with (
                create_connection((LOOPBACK, self.port), 2) as raw,
                context.wrap_socket(raw, server_hostname="localhost"),
            ):
                return True
        except OSError:
            return False

    def obstacle(self) -> str:
        """That it does not answer a client who logs in, or has a partition that cannot be used."""
        return self.asking.ask(lambda: cluster_obstacle(self.connection))

    @property
    def connection(self) -> KafkaConnection:
        """As the user `workbench` reaches it."""
        return KafkaConnection(
            bootstrap_servers=(self.address,),
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            username=USER,
            password=SecretStr(self.password),
            ca_file=str(self.certificates.authority),
        )

    def complete(self) -> None:
        """Nothing is left to do once the broker answers."""

    def _java_command(self) -> tuple[str, ...]:
        class_path = ":".join(str(jar) for jar in self.jars)
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return (str(self.java.executable), *JVM_OPTIONS, logging, "-cp", class_path)

    def _write_configuration(self, path: Path, data: Path) -> None:
        properties = PROPERTIES.format(
            host=LOOPBACK,
            port=self.port,
            controller_port=self.controller_port,
            data=in_properties(data),
            server_certificate=in_properties(self.certificates.server),
            authority=in_properties(self.certificates.authority),
            user=USER,
            broker_user=BROKER_USER,
            broker_password=ensure_token(self.home / "keys" / "kafka-broker-password"),
        )
        write_private(path, properties)
        write_private(self.folder / "log4j2.properties", LOG4J)

    def _format(self) -> None:
        """Format a new folder and move it into place whole, so that no half-formatted one is ever found."""
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        configuration = self.folder / "format.properties"
        self._write_configuration(configuration, fresh)
        # The passwords go through a file: everybody on the machine can read a command line.
        arguments = self.folder / "format.arguments"
        users = {USER: self.password, BROKER_USER: ensure_token(self.home / "keys" / "kafka-broker-password")}
        lines = ["format", "--standalone", "--cluster-id", new_cluster_id(), "--config", str(configuration)]
        for name, password in users.items():
            lines += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        write_private(arguments, "\n".join(lines) + "\n")
        try:
            done = subprocess.run(
                [*self._java_command(), "kafka.tools.StorageTool", f"@{arguments}"],
                capture_output=True, text=True, timeout=FORMAT_SECONDS, check=False, env={**os.environ, **file_names(os.environ)},
            )  # fmt: skip
        finally:
            arguments.unlink()
            configuration.unlink()
        if done.returncode:
            raise ComponentError(
                f"Kafka could not format {fresh}:\n{(done.stdout + done.stderr)[-1500:]}",
                remedy="Check the free space and rights of that folder.",
            )
        fresh.rename(self.data)


def in_properties(value: Path) -> str:
    """A path as `java.util.Properties` reads it: Latin-1, with escapes for all else."""
    units = str(value).replace("\\", "\\\\").encode("utf-16-be", "surrogatepass")
    codes = (int.from_bytes(units[start : start + 2], "big") for start in range(0, len(units), 2))
    return "".join(chr(code) if " " <= chr(code) <= "~" else f"\\u{code:04x}" for code in codes)


def new_cluster_id() -> str:
    """A random cluster id as Kafka writes them: a UUID in URL-safe base64 that does not begin with a dash."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
