"""The topics of a cluster, beside what the file says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.ingestion.cluster.admin import ClusterTopic, open_admin
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.topics.definition import Topic
from workbench.ingestion.topics.plan import as_duration


@dataclass(frozen=True, kw_only=True)
class ListedTopic:
    """A topic of the cluster."""

    name: str
    partitions: int
    replication: int
    retention: str  #: for people; empty when the user may not read properties
    retention_ms: int | None
    retention_bytes: int | None
    cleanup_policy: str
    records: int | None  #: about; None when a partition has no leader
    owner: str
    schema: str
    is_declared: bool


def list_topics(connection: KafkaConnection, declared: Sequence[Topic]) -> tuple[ListedTopic, ...]:
    """All topics but the cluster's own, by name.

    Raises:
        KafkaError: when the cluster does not answer.
    """
    known = {topic.name: topic for topic in declared}
    with open_admin(connection) as admin:
        found = admin.read_topics()
        counts = admin.count_records([topic for topic in found.values() if topic.is_led])
    return tuple(_listed(found[name], known.get(name), counts.get(name)) for name in sorted(found))


def _listed(topic: ClusterTopic, declared: Topic | None, records: int | None) -> ListedTopic:
    milliseconds, size, policy = (
        topic.properties[name].value if name in topic.properties else ""
        for name in ("retention.ms", "retention.bytes", "cleanup.policy")
    )
    return ListedTopic(
        name=topic.name,
        partitions=topic.partitions,
        replication=topic.replication,
        retention=_retention(milliseconds, size, policy) if topic.properties else "",
        retention_ms=int(milliseconds) if milliseconds else None,
        retention_bytes=int(size) if size else None,
        cleanup_policy=policy,
        records=records,
        owner=declared.owner if declared else "",
        schema=str(declared.schema) if declared and declared.schema else "",
        is_declared=declared is not None,
    )


def _retention(milliseconds: str, size: str, policy: str) -> str:
    parts = ["compacted"] if "compact" in policy else []
    if "delete" in policy:
        parts.append(as_duration(milliseconds))
        parts += [f"{int(size):,} bytes a partition"] if size != "-1" else []
    return ", ".join(parts) or "for ever"
