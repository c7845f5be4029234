"""Topics as code: what pipelines/topics.yaml asks for is created; what would lose data is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import KafkaError, SettingsError
from workbench.ingestion.connection import KafkaConnection

FOREVER = -1
FIELDS = {"partitions", "replication", "retention_hours", "owner"}


@dataclass(frozen=True, kw_only=True)
class Topic:
    """What a topic should be like."""

    name: str
    partitions: int = 1
    replication: int = -1  #: -1 is the cluster's default
    retention_hours: int | None = None  #: None is the cluster's default, -1 keeps records for ever
    owner: str = ""

    @property
    def configuration(self) -> dict[str, str]:
        """Topic properties of Kafka (kafka.apache.org, "Topic Configs")."""
        if self.retention_hours is None:
            return {}
        milliseconds = FOREVER if self.retention_hours == FOREVER else self.retention_hours * 3_600_000
        return {"retention.ms": str(milliseconds)}


@dataclass(frozen=True)
class Change:
    """One step from what the cluster has to what the file asks for."""

    topic: Topic
    action: str  #: create, grow, refuse
    detail: str


def read_topics(path: Path) -> tuple[Topic, ...]:
    """The topics of a YAML file.

    Raises:
        SettingsError: naming the file and every field that is wrong.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError([f"{path}: {error}"]) from None
    entries = raw.get("topics") if isinstance(raw, dict) else None
    if not isinstance(entries, dict):
        raise SettingsError([f"{path}: there is no mapping `topics:`. See docs/ingestion.md for the format."])
    problems = [problem for name, fields in entries.items() for problem in _problems(path, name, fields or {})]
    if problems:
        raise SettingsError(problems)
    return tuple(Topic(name=name, **(fields or {})) for name, fields in entries.items())


def plan_topics(connection: KafkaConnection, wanted: Sequence[Topic]) -> tuple[Change, ...]:
    """What would have to change; nothing is changed.

    Raises:
        KafkaError: when the cluster does not answer.
    """
    existing = _partition_counts(connection, wanted)
    return tuple(change for topic in wanted if (change := _change(topic, existing.get(topic.name))))


def apply_topics(connection: KafkaConnection, wanted: Sequence[Topic]) -> tuple[Change, ...]:
    """Create and grow topics until the cluster has what is wanted; returns what was done.

    Raises:
        KafkaError: when a change would lose records, before anything is changed. A topic that
            grows sends the records of some keys to other partitions from then on.
    """
    from kafka.admin import KafkaAdminClient, NewPartitions, NewTopic
    from kafka.errors import KafkaError as DriverError

    changes = plan_topics(connection, wanted)
    if refused := [change for change in changes if change.action == "refuse"]:
        raise KafkaError(
            "; ".join(change.detail for change in refused),
            remedy="Correct the file, or make a new topic and move its readers.",
        )
    if not changes:
        return changes
    client = KafkaAdminClient(**connection.for_kafka_python())
    try:
        new = [
            NewTopic(
                change.topic.name,
                change.topic.partitions,
                change.topic.replication,
                topic_configs=change.topic.configuration,
            )
            for change in changes
            if change.action == "create"
        ]
        if new:
            client.create_topics(new, wait_for_metadata=True)
        grown = {
            change.topic.name: NewPartitions(change.topic.partitions) for change in changes if change.action == "grow"
        }
        if grown:
            client.create_partitions(grown)
    except DriverError as error:
        raise KafkaError(
            f"the cluster refused the change: {error}",
            remedy="Check the rights of KAFKA_USERNAME and the values in the file.",
        ) from None
    finally:
        client.close()
    return changes


def _partition_counts(connection: KafkaConnection, wanted: Sequence[Topic]) -> Mapping[str, int]:
    from confluent_kafka.admin import AdminClient

    connection.check()
    client = AdminClient(connection.for_confluent())
    with connection.reported():
        found = client.list_topics(timeout=15).topics
    return {topic.name: len(found[topic.name].partitions) for topic in wanted if topic.name in found}


def _change(topic: Topic, partitions: int | None) -> Change | None:
    if partitions is None:
        return Change(topic, "create", f"{topic.name}: create with {topic.partitions} partitions")
    if partitions < topic.partitions:
        return Change(topic, "grow", f"{topic.name}: grow from {partitions} to {topic.partitions} partitions")
    if partitions > topic.partitions:
        return Change(
            topic,
            "refuse",
            f"{topic.name} has {partitions} partitions and cannot shrink to {topic.partitions} without losing records",
        )
    return None


def _problems(path: Path, name: str, fields: Any) -> list[str]:
    where = f"{path}: topic {name}"
    if not isinstance(fields, dict):
        return [f"{where} is {fields!r}, not a mapping of {', '.join(sorted(FIELDS))}."]
    found = [
        f"{where}: unknown field {field!r}. Known are {', '.join(sorted(FIELDS))}."
        for field in fields
        if field not in FIELDS
    ]
    found += [
        f"{where}: {field} is {fields[field]!r}, which is no whole number."
        for field in ("partitions", "replication", "retention_hours")
        if field in fields and (not isinstance(fields[field], int) or isinstance(fields[field], bool))
    ]
    if isinstance(fields.get("partitions"), int) and fields["partitions"] < 1:
        found.append(f"{where}: partitions is {fields['partitions']}; a topic has at least one.")
    return found
