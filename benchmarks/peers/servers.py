"""The servers of the benchmark: the product's own broker and PostgreSQL, the broker with a plaintext listener too.

    python -m benchmarks.peers.servers [--records 2000000] [--home FOLDER]

starts them, sends the records, writes the connections to a file and waits for Ctrl-C: for
trying one lane again and again.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from benchmarks.peers.records import Load, connect, ensure_topic
from workbench.embedded.jars import ensure_jars, read_lock
from workbench.embedded.java import find_java
from workbench.embedded.kafka import KafkaBroker
from workbench.embedded.postgres import PostgresServer
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.resources import resource
from workbench.runtime.ports import LOOPBACK, any_free
from workbench.runtime.process import Launch
from workbench.runtime.supervisor import Supervisor
from workbench.sections import EMBEDDED_SUPERUSER, KafkaSettings, WarehouseSettings
from workbench.security.secrets import ensure_token, write_private

DATABASE = "analytics"
ROLE = "workbench"


@dataclass(frozen=True, kw_only=True)
class TwoListenerBroker(KafkaBroker):
    """The embedded broker as it is, and beside its TLS listener a plaintext one on loopback for anybody."""

    plaintext_port: int

    def prepare(self) -> Launch:
        """Add the second listener to the properties that the product writes."""
        launch = super().prepare()
        properties = self.folder / "server.properties"
        # KafkaPrincipal.ANONYMOUS is who comes without authentication.
        additions = {
            "listeners=": f",PLAIN://{LOOPBACK}:{self.plaintext_port}",
            "advertised.listeners=": f",PLAIN://localhost:{self.plaintext_port}",
            "listener.security.protocol.map=": ",PLAIN:PLAINTEXT",
            "super.users=": ";User:ANONYMOUS",
        }
        lines = [
            line + next((more for key, more in additions.items() if line.startswith(key)), "")
            for line in properties.read_text(encoding="utf-8").splitlines()
        ]
        write_private(properties, "\n".join(lines) + "\n")
        return launch


@dataclass(frozen=True)
class Servers:
    """Running servers, and how to reach them."""

    home: Path
    plaintext: KafkaSettings
    tls: KafkaSettings  #: with SCRAM-SHA-512, as `workbench up` has it
    warehouse: WarehouseSettings

    def load(self, records: int, *, tls: bool) -> Load:
        """All of *records* records, over TLS or not; they are sent to the broker when it does not have them."""
        topic = ensure_topic(KafkaConnection.from_settings(self.plaintext), records)
        return Load(kafka=self.tls if tls else self.plaintext, warehouse=self.warehouse, topic=topic, records=records)

    def settle(self) -> None:
        """Write a checkpoint, so that no lane pays for what another wrote."""
        superuser = self.warehouse.model_copy(
            update={
                "user": EMBEDDED_SUPERUSER,
                "password": SecretStr(ensure_token(self.home / "keys" / "warehouse-superuser-password")),
            }
        )
        with connect(superuser) as connection:
            connection.execute("CHECKPOINT")


@contextmanager
def running_servers(home: Path) -> Iterator[Servers]:
    """Start a broker and a PostgreSQL on free ports with their files under *home*, and stop them at the end."""
    broker = TwoListenerBroker(
        home=home,
        java=find_java(),
        jars=kafka_jars(),
        port=any_free(),
        controller_port=any_free(),
        plaintext_port=any_free(),
    )
    postgres = PostgresServer(home=home, port=any_free(), database=DATABASE, user=ROLE)
    with Supervisor(home) as supervisor:
        supervisor.start((broker, postgres))
        yield Servers(home, _plaintext(broker), _tls(broker), _warehouse(postgres))


def kafka_jars() -> list[Path]:
    """The broker's jars, those of the checkout."""
    folder = resource("pyproject.toml").parent / ".workbench" / "jars"
    wanted = [jar for jar in read_lock() if jar.server == "kafka"]
    return ensure_jars(folder, wanted, repository=os.environ.get("WORKBENCH_EMBEDDED_JARS_REPOSITORY", ""))["kafka"]


def _plaintext(broker: TwoListenerBroker) -> KafkaSettings:
    return KafkaSettings.model_validate(
        {"KAFKA_BROKERS": f"localhost:{broker.plaintext_port}", "KAFKA_SSL_ENABLED": "false"}
    )


def _tls(broker: TwoListenerBroker) -> KafkaSettings:
    return KafkaSettings.model_validate({
        "KAFKA_BROKERS": broker.address,
        "KAFKA_USERNAME": broker.user,
        "KAFKA_PASSWORD": broker.password,
        "WORKBENCH_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "WORKBENCH_KAFKA_CA_FILE": str(broker.certificates.authority),
    })  # fmt: skip


def _warehouse(postgres: PostgresServer) -> WarehouseSettings:
    return WarehouseSettings.model_validate({
        "DW_HOST": LOOPBACK,
        "DW_PORT": str(postgres.port),
        "DW_DATABASE": postgres.database,
        "DW_USER": postgres.user,
        "DW_PASSWORD": postgres.password,
    })  # fmt: skip


def main() -> None:
    """Start the servers, send the records, wait for Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--home", type=Path, help="a new or old folder of the servers; default is a temporary one")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        tempfile.TemporaryDirectory() as temporary,
        running_servers(arguments.home or Path(temporary) / "home") as servers,
    ):
        for name, tls in {"plaintext": False, "tls": True}.items():
            file = servers.load(arguments.records, tls=tls).write(servers.home / f"load-{name}.json")
            print(f"{file}: Load.read(path) gives it back", flush=True)
        print("Ctrl-C ends the servers.", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
