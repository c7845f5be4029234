"""Which servers `workbench up` and `workbench demo` start on this machine, and how others find them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from workbench.embedded.backups import BackupKeeper
from workbench.embedded.java import Java
from workbench.embedded.kafka import KafkaBroker
from workbench.embedded.memory import tell_of_little_memory
from workbench.embedded.postgres import PostgresServer
from workbench.embedded.programs import java_and_jars, make_spark
from workbench.embedded.spark_readiness import spark_obstacle
from workbench.errors import ComponentError, NoDiskSpace, SettingsError, SparkError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.readiness import check_cluster
from workbench.runtime.ports import LOOPBACK, any_free, choose
from workbench.runtime.process import Component
from workbench.runtime.state import State, read_status
from workbench.runtime.supervisor import Supervisor
from workbench.security.secrets import private_folder, write_private
from workbench.settings import EMBEDDED_ENV, Settings
from workbench.warehouse.engine import read_frame

SPARK_SECONDS = 180.0
FREE_BYTES_NEEDED = 1_000_000_000
KAFKA_PORT = 9092
WAREHOUSE_USER = "workbench"


@dataclass(frozen=True)
class Machine:
    """The servers of one machine: those to start, those that are somebody else's, and how to reach them."""

    home: Path
    data: tuple[Component, ...]  #: broker and warehouse, needed at once
    spark: tuple[Component, ...]  #: the Connect server of jobs, which takes longest
    external: dict[str, str]  #: name and address of what is configured to be elsewhere
    later: tuple[Component, ...] = ()  #: started when the data servers run; nobody waits for them
    #: How to ask those that are elsewhere: each raises WorkbenchError when it does not answer.
    checks: Mapping[str, Callable[[], object]] = field(default_factory=dict)

    def forget(self) -> None:
        """Stop telling others where the servers are."""
        (self.home / EMBEDDED_ENV).unlink(missing_ok=True)


def plan_machine(settings: Settings, tell: Callable[[str], None] = lambda _: None) -> Machine:
    """Decide what to start for *settings*, fetch what that needs, and write run/embedded.env.

    Args:
        settings: loaded with `embedded=False`: a server of an earlier run is not an external one.
        tell: called with a sentence before something that takes long.

    Raises:
        ComponentError: when Java, a jar, disk space or a port that was asked for is missing.
    """
    home = private_folder(settings.home)
    check_disk(home)
    tell_of_little_memory(settings)
    check_external(settings)
    data: list[Component] = []
    spark: list[Component] = []
    later: list[Component] = []
    external: dict[str, str] = {}
    found: dict[str, str] = {}
    if settings.kafka.brokers:
        external["kafka"] = ",".join(settings.kafka.brokers)
    else:
        broker = _kafka(home, *java_and_jars(settings, "kafka", tell))
        data.append(broker)
        found |= _kafka_variables(broker)
    if settings.warehouse.dialect == "duckdb":
        external["warehouse"] = str(settings.warehouse.file)
    elif settings.warehouse.host:
        external["warehouse"] = f"{settings.warehouse.host}:{settings.warehouse.port}/{settings.warehouse.database}"
    else:
        warehouse = _postgres(home, settings)
        data.append(warehouse)
        if settings.backup.folder is not None:
            later.append(BackupKeeper(home=home, folder=settings.backup.folder, environment=settings.as_environment()))
        found |= _warehouse_variables(warehouse)
    if settings.spark.remote:
        external["spark"] = settings.spark.remote
    else:
        server = make_spark(
            settings, home / "spark", log=home / "logs" / "spark.log", lock=home / "run" / "spark.lock", tell=tell
        )
        spark.append(server)
        found |= {"WORKBENCH_SPARK_REMOTE": server.address, "WORKBENCH_SPARK_TOKEN": server.token}
    private_folder(home / "run")
    write_private(home / EMBEDDED_ENV, "".join(_line(name, value) for name, value in found.items()))
    return Machine(home, tuple(data), tuple(spark), external, tuple(later), external_checks(settings))


def check_external(settings: Settings) -> None:
    """Ask the configured cluster and warehouse whether they are there, before anything is started.

    Raises:
        KafkaError, WarehouseError: when one does not answer or refuses us.
    """
    if settings.kafka.brokers:
        KafkaConnection.from_settings(settings.kafka).check()
    if check := external_checks(settings).get("warehouse"):
        check()


def external_checks(settings: Settings) -> dict[str, Callable[[], object]]:
    """How to ask each server that is configured to be elsewhere whether it can work; each raises WorkbenchError."""
    checks: dict[str, Callable[[], object]] = {}
    if settings.kafka.brokers:
        checks["kafka"] = partial(check_cluster, KafkaConnection.from_settings(settings.kafka))
    if settings.warehouse.host:
        checks["warehouse"] = partial(read_frame, settings.warehouse, "SELECT 1", {})
    if settings.spark.remote:
        checks["spark"] = partial(_check_spark, settings.spark.remote, settings.spark.token.get_secret_value())
    return checks


def _check_spark(remote: str, token: str) -> None:
    """Raise SparkError when no server answers there, or it does not let us in."""
    if obstacle := spark_obstacle(remote, token):
        raise SparkError(
            f"Spark at {urlsplit(remote).netloc}: {obstacle}", remedy="See the server of WORKBENCH_SPARK_REMOTE."
        )


def check_disk(home: Path) -> None:
    """Raise NoDiskSpace when less than 1 GB is free under *home*."""
    free = shutil.disk_usage(home).free
    if free < FREE_BYTES_NEEDED:
        raise NoDiskSpace(
            f"{free / 1e6:.0f} MB are free under {home}; the servers need {FREE_BYTES_NEEDED / 1e6:.0f} MB to start",
            remedy="Free some space, or set WORKBENCH_HOME to a folder on another disk.",
        )


def _kafka(home: Path, java: Java, jars: list[Path]) -> KafkaBroker:
    return KafkaBroker(home=home, java=java, jars=jars, port=choose(KAFKA_PORT), controller_port=any_free())


def _postgres(home: Path, settings: Settings) -> PostgresServer:
    asked_for = "port" in settings.warehouse.model_fields_set
    return PostgresServer(
        home=home,
        port=choose(settings.warehouse.port, variable="DW_PORT", asked_for=asked_for),
        database=settings.warehouse.database,
        user=settings.warehouse.user or WAREHOUSE_USER,
        password_override=settings.warehouse.password.get_secret_value(),
        is_backed_up=settings.backup.folder is not None,
    )


def _kafka_variables(broker: KafkaBroker) -> dict[str, str]:
    # The hub starts beside the broker and checks that the file it is told of is there.
    broker.ensure_certificates()
    return {
        "KAFKA_BROKERS": broker.address,
        "KAFKA_USERNAME": broker.user,
        "KAFKA_PASSWORD": broker.password,
        "KAFKA_SSL_ENABLED": "true",
        "WORKBENCH_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "WORKBENCH_KAFKA_CA_FILE": str(broker.certificates.authority),
    }


def _warehouse_variables(warehouse: PostgresServer) -> dict[str, str]:
    return {
        "DW_HOST": LOOPBACK,
        "DW_PORT": str(warehouse.port),
        "DW_DATABASE": warehouse.database,
        "DW_USER": warehouse.user,
        "DW_PASSWORD": warehouse.password,
    }


def _line(name: str, value: str) -> str:
    """A line from which python-dotenv reads the very value back.

    Raises:
        SettingsError: when it would read another one: it puts in variables, and knows no way around that.
    """
    if "${" in value:
        raise SettingsError(
            [f"{name} contains `${{`, after which other processes would read a variable. Choose another."]
        )
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{escaped}'\n"


@contextmanager
def running_servers(tell: Callable[[str], None] = lambda _: None) -> Iterator[Settings]:
    """Settings that lead to running servers: those of a running workbench, else started here and stopped after.

    Raises:
        ComponentError: when one cannot be started.
    """
    settings = Settings.load(embedded=False)
    if read_status(settings.home).pid is not None:
        _wait_for_spark(settings.home, tell)
        yield Settings.load()
        return
    with Supervisor(settings.home) as supervisor:
        machine = plan_machine(settings, tell)
        try:
            components = (*machine.data, *machine.spark)
            if components:
                tell(f"Starting {', '.join(component.name for component in components)}…")
            supervisor.start(components)
            supervisor.announce("")
            yield Settings.load()
        finally:
            machine.forget()


def _wait_for_spark(home: Path, tell: Callable[[str], None]) -> None:
    """`workbench up` opens its door before Spark is warm."""
    deadline, told = time.monotonic() + SPARK_SECONDS, False
    while (status := read_status(home)).pid is not None:
        if status.ready and not status.url:
            raise ComponentError(
                f"another command (pid {status.pid}) has started the servers for itself",
                remedy="Run this one again when that one has ended.",
            )
        states = {component.name: component for component in status.components}
        spark = states.get("spark")
        if status.ready and spark and spark.state in {State.RUNNING, State.EXTERNAL}:
            return
        if spark and spark.state is State.FAILED:
            raise ComponentError(
                f"Spark is not running: {spark.reason}",
                remedy="Correct what it names; it is tried again every minute, and at once after `workbench down` and a new start.",
            )
        if time.monotonic() > deadline:
            raise ComponentError(
                f"Spark was not ready after {SPARK_SECONDS:.0f} s", remedy="`workbench status` shows what it waits for."
            )
        if not told:
            tell("Waiting for Spark to be ready…")
            told = True
        time.sleep(0.2)
    raise ComponentError("the workbench was stopped meanwhile", remedy="Run the command again.")
