"""Brokers that share a cluster, each a process of its own: they can be killed, and started again with other certificates."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.certificates import Authority
from tests.services.kafka_cluster import UP_SECONDS, kafka_jars
from tests.services.workbench import wait_until
from workbench.embedded.java import find_java
from workbench.embedded.kafka import LOG4J, new_cluster_id
from workbench.errors import KafkaError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.runtime.ports import any_free

USER, PASSWORD = "somebody", "a-password-for-tests"
# Little memory, and no time for the second compiler: the brokers live for a minute.
JVM_OPTIONS = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listeners=CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://localhost:{client},INTERNAL://127.0.0.1:{internal}
listener.security.protocol.map=CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={store}
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={count}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={count}
offsets.topic.num.partitions=2
transaction.state.log.replication.factor={count}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A broker that was killed is missed after two seconds, not after nine.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=1000
controller.quorum.fetch.timeout.ms=1000
log.cleaner.enable=false
num.network.threads=1
num.io.threads=2
"""


@dataclass
class Broker:
    """One node; broker and controller in one process."""

    node: int
    folder: Path
    ports: tuple[int, int, int] = field(default_factory=lambda: (any_free(), any_free(), any_free()))
    process: subprocess.Popen[bytes] | None = None


class Brokers:
    """A cluster of combined nodes on loopback, by TLS and SCRAM; made of one node it is an ordinary broker.

    `authority` has signed the certificate that the nodes show from their next start on, and
    `trusted` is what clients read.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.authority = Authority(folder, "first")
        self.trusted = folder / "trusted.pem"
        self.trusted.write_bytes(self.authority.file.read_bytes())
        self.store = folder / "broker.store"
        self.rotate(self.authority)
        self._brokers = {node: Broker(node, folder / f"node-{node}") for node in range(1, count + 1)}
        self._cluster_id = new_cluster_id()

    def rotate(self, authority: Authority) -> None:
        """Put a new certificate where the nodes find it when they start."""
        self.authority = authority
        self.store.write_bytes(authority.issue("broker").store.read_bytes())

    def variables(self) -> dict[str, str]:
        """The workbench's variables that lead to this cluster."""
        return {
            "KAFKA_BROKERS": ",".join(f"localhost:{broker.ports[0]}" for broker in self._brokers.values()),
            "KAFKA_USERNAME": USER,
            "KAFKA_PASSWORD": PASSWORD,
            "WORKBENCH_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "WORKBENCH_KAFKA_CA_FILE": str(self.trusted),
        }

    def format(self) -> None:
        """Make the data folders."""
        processes = []
        for broker in self._brokers.values():
            broker.folder.mkdir()
            (broker.folder / "server.properties").write_text(self._properties(broker))
            (broker.folder / "log4j2.properties").write_text(LOG4J)
            arguments = ["format", "--cluster-id", self._cluster_id, "--config", "server.properties"]
            arguments += ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"]
            command = [*_java(broker), "kafka.tools.StorageTool", *arguments]
            processes.append(
                subprocess.Popen(command, cwd=broker.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            )
        for process in processes:
            said, _ = process.communicate(timeout=UP_SECONDS)
            assert process.returncode == 0, said.decode()

    def start(self, *nodes: int) -> None:
        """Start nodes, all of them when none is named; does not wait."""
        for node in nodes or self._brokers:
            broker = self._brokers[node]
            with (broker.folder / "kafka.log").open("ab") as log:
                command = [*_java(broker), "kafka.Kafka", "server.properties"]
                broker.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=broker.folder)

    def kill(self, *nodes: int) -> None:
        """kill -9; all of them when none is named."""
        for node in nodes or self._brokers:
            process, self._brokers[node].process = self._brokers[node].process, None
            if process is not None:
                process.kill()
                process.wait(20)

    @contextmanager
    def stopped(self, node: int = 1) -> Iterator[Callable[[], None]]:
        """Gives what stops a node (SIGSTOP: its ports stay open, nothing is answered); it goes on at the end."""
        process = self._brokers[node].process
        assert process is not None

        def stop() -> None:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)  # every thread of it

        try:
            yield stop
        finally:
            process.send_signal(signal.SIGCONT)

    def wait_until_whole(self, connection: KafkaConnection, topic: str) -> None:
        """Wait until every replica of *topic* is in sync."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        # Held over all attempts, so that a node that comes back is found by one that is there.
        client = AdminClient(connection.for_confluent() | {"log_level": 0})

        def is_whole() -> bool:
            self._assert_running()
            try:
                partitions = client.list_topics(topic, timeout=2).topics[topic].partitions.values()
            except (KafkaException, KeyError):
                return False
            return bool(partitions) and all(
                each.leader in self._brokers and len(each.isrs) == len(self._brokers) for each in partitions
            )

        wait_until(is_whole, UP_SECONDS, f"all replicas of {topic}")

    def leader(self, connection: KafkaConnection, topic: str, partition: int) -> int:
        """The node that leads a partition; waits until there is one."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient(connection.for_confluent())
        found = [-1]

        def is_led() -> bool:
            with suppress(KafkaException, KeyError):  # a topic that was just made is not known to all nodes
                found[:] = [client.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader]
            return found[0] in self._brokers

        wait_until(is_led, UP_SECONDS, f"a leader of {topic}/{partition}")
        return found[0]

    def wait_until_answering(self, connection: KafkaConnection) -> None:
        """Wait until all nodes are in the cluster that clients see."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        def all_there() -> bool:
            self._assert_running()
            try:
                connection.check()
                client = AdminClient(connection.for_confluent())
                return len(client.list_topics(timeout=10).brokers) == len(self._brokers)
            except (KafkaError, KafkaException):
                return False

        wait_until(all_there, UP_SECONDS, "all brokers to answer")

    def _properties(self, broker: Broker) -> str:
        client, internal, controller = broker.ports
        return PROPERTIES.format(
            node=broker.node,
            voters=",".join(f"{each.node}@127.0.0.1:{each.ports[2]}" for each in self._brokers.values()),
            client=client,
            internal=internal,
            controller=controller,
            store=self.store,
            data=broker.folder / "data",
            count=len(self._brokers),
            in_sync=min(len(self._brokers), 2),
        )

    def _assert_running(self) -> None:
        for broker in self._brokers.values():
            log = broker.folder / "kafka.log"
            assert broker.process is not None, f"node {broker.node} was killed and not started again"
            assert broker.process.poll() is None, log.read_text()[-3000:]


@contextmanager
def running_brokers(folder: Path, count: int) -> Iterator[Brokers]:
    """Start as many nodes as asked for, and kill them at the end."""
    folder.mkdir()
    brokers = Brokers(folder, count)
    try:
        brokers.format()
        brokers.start()
        yield brokers
    finally:
        brokers.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _java(broker: Broker) -> tuple[str, ...]:
    logging = f"-Dlog4j2.configurationFile={broker.folder / 'log4j2.properties'}"
    return (str(find_java().executable), *JVM_OPTIONS, logging, "-cp", ":".join(map(str, kafka_jars())))
