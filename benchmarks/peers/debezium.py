"""Debezium's JDBC sink on Kafka Connect, standalone: the usual way from Kafka into a database without code.

Tuned with care: the table made beforehand, batches as large as a poll, INSERTs that the
driver rewrites to many rows each, one task a partition, and the heap that Kafka's own scripts
give to Connect.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from benchmarks.peers.lane import Command, Lane, Mode
from benchmarks.peers.records import PARTITIONS, Load, make_table
from workbench.embedded.jars import ensure_jars, read_lock
from workbench.embedded.java import find_java
from workbench.resources import resource
from workbench.runtime.ports import LOOPBACK, any_free
from workbench.security.secrets import write_private

LOCK = Path(__file__).with_name("jars.lock")
VERSION = "Debezium 3.5.0.Final, Kafka Connect 4.3.0"
# bin/connect-standalone.sh and bin/kafka-run-class.sh of Kafka 4.3.
JVM_OPTIONS = (
    *("-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
    *("-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"),
)
LOG4J = """\
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""
# Connect's own JSON schema: the records carry none (KIP-1054). The semantic type makes Debezium
# bind the text as a timestamp with time zone.
TYPES: Mapping[str, dict[str, object]] = {
    "id": {"type": "int64"},
    "account": {"type": "int32"},
    "kind": {"type": "string"},
    "amount": {"type": "double"},
    "at": {"type": "string", "name": "io.debezium.time.ZonedTimestamp", "version": 1},
    "note": {"type": "string"},
}


def debezium_lane(mode: Mode, *, unnest: bool = False) -> Lane:
    """The sink in insert mode, or in upsert mode with the id as key; *unnest* sends columns as arrays."""

    def prepare(load: Load, folder: Path) -> Command:
        make_table(load, primary_key=mode == "merge")
        worker, connector, logging = (
            folder / name for name in ("worker.properties", "sink.properties", "log4j2.properties")
        )
        write_private(worker, properties(worker_properties(load, folder)))
        write_private(connector, properties(connector_properties(load, mode, unnest=unnest)))
        write_private(logging, LOG4J)
        class_path = ":".join(map(str, jars()))
        return Command(
            argv=(
                *(str(find_java().executable), *JVM_OPTIONS, f"-Dlog4j2.configurationFile={logging}"),
                *("-cp", class_path, "org.apache.kafka.connect.cli.ConnectStandalone", str(worker), str(connector)),
            ),
            ends=False,
        )

    return Lane(name=f"debezium-{'unnest-' if unnest else ''}{mode}", mode=mode, prepare=prepare, version=VERSION)


def jars() -> list[Path]:
    """The class path, flat: plugin isolation breaks on Jackson's Blackbird module."""
    folder = resource("pyproject.toml").parent / ".workbench" / "cache" / "peers" / "jars"
    repository = os.environ.get("WORKBENCH_EMBEDDED_JARS_REPOSITORY", "")
    return ensure_jars(folder, read_lock(LOCK), repository=repository)["debezium"]


def worker_properties(load: Load, folder: Path) -> dict[str, str]:
    """Properties of the Connect worker; its consumers are told how to reach the cluster again."""
    cluster = {name.removeprefix("kafka."): value for name, value in load.connection.for_spark().items()}
    converter = "org.apache.kafka.connect.json.JsonConverter"
    return {
        **cluster,
        **{f"consumer.{name}": value for name, value in cluster.items()},
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": converter,
        "value.converter.schemas.enable": "true",
        "value.converter.schema.content": json.dumps(
            {"type": "struct", "fields": [{"field": name, **kind} for name, kind in TYPES.items()]}
        ),
        "offset.storage.file.filename": str(folder / "connect.offsets"),
        # Everything is on one class path, and says by its manifests what it is: no need to scan it.
        "plugin.discovery": "service_load",
        "listeners": f"http://{LOOPBACK}:{any_free()}",
    }


def connector_properties(load: Load, mode: Mode, *, unnest: bool) -> dict[str, str]:
    """Properties of the sink; its name is new each time, because it names the consumer group."""
    warehouse = load.warehouse
    key = {"insert.mode": "upsert", "primary.key.mode": "record_value", "primary.key.fields": "id"}
    return {
        "name": f"records-{uuid4().hex}",
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": str(PARTITIONS),
        "topics": load.topic,
        "connection.url": f"jdbc:postgresql://{warehouse.host}:{warehouse.port}/{warehouse.database}?reWriteBatchedInserts=true",
        "connection.username": warehouse.user,
        "connection.password": warehouse.password.get_secret_value(),
        "collection.name.format": f"{load.schema}.{load.table}",
        "schema.evolution": "none",
        "quote.identifiers": "true",
        "batch.size": "2000",
        "consumer.override.max.poll.records": "5000",
        **(key if mode == "merge" else {"insert.mode": "insert", "primary.key.mode": "none"}),
        "dialect.postgres.unnest.insert.enabled": str(unnest).lower(),
    }


def properties(values: Mapping[str, str]) -> str:
    """The text of a Java properties file."""
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in values.items())
