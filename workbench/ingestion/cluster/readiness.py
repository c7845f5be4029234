"""Whether a cluster can do its work: it answers who may ask, and has a leader for every partition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.errors import KafkaError, KafkaUnavailable
from workbench.ingestion.cluster.connection import KafkaConnection

if TYPE_CHECKING:
    from confluent_kafka.admin import ClusterMetadata

NAMED = 3  #: partitions that a reason names
ANSWER_SECONDS = 5.0
NO_LEADER = -1


def cluster_obstacle(connection: KafkaConnection, seconds: float = ANSWER_SECONDS) -> str:
    """What keeps a cluster from its work now; empty when nothing does. Takes *seconds* and a second at most."""
    try:
        return partition_obstacle(connection.metadata(seconds))
    except KafkaUnavailable:
        return f"it does not answer within {seconds:g} s"
    except KafkaError as error:
        return error.message


def check_cluster(connection: KafkaConnection) -> None:
    """Ask a cluster that somebody else runs.

    A partition that lacks a replica can be read and written: while brokers are restarted one after the other, the
    cluster does its work.

    Raises:
        KafkaError: when it does not answer, refuses us, or a partition has no leader.
    """
    if obstacle := partition_obstacle(connection.metadata(), lacking=False):
        raise KafkaUnavailable(
            f"Kafka at {','.join(connection.bootstrap_servers)}: {obstacle}",
            remedy="Start the brokers that have its replicas.",
        )


def partition_obstacle(metadata: ClusterMetadata, *, lacking: bool = True) -> str:
    """Partitions without a leader, or else those with fewer replicas in sync than they have; empty when all are well.

    Args:
        metadata: what the cluster says of itself; of its topics those that we may see.
        lacking: whether partitions that lack a replica count.
    """
    partitions = [
        (f"{topic.topic}/{partition.id}", partition)
        for topic in metadata.topics.values()
        for partition in topic.partitions.values()
    ]
    if offline := sorted(name for name, each in partitions if each.leader == NO_LEADER):
        return _sentence(offline, "no leader, and can be neither read nor written")
    behind = sorted(name for name, each in partitions if len(each.isrs) < len(each.replicas))
    return _sentence(behind, "fewer replicas in sync than there should be") if lacking and behind else ""


def _sentence(names: Sequence[str], what: str) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    verb = "has" if len(names) == 1 else "have"
    return f"{', '.join(names[:NAMED])}{more} {verb} {what}"
