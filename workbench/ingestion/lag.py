"""How far a table is behind its topic, by the offset in the warehouse: in records and in seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.ingestion.cluster.connection import ANSWER_SECONDS, KafkaConnection
from workbench.ingestion.cluster.watermarks import read_topic_state
from workbench.ingestion.source import PROPERTIES
from workbench.loading import Progress


@dataclass(frozen=True, kw_only=True)
class PartitionLag:
    """How far one partition is behind."""

    partition: int
    next_offset: int  #: in the warehouse
    end_offset: int  #: in Kafka, before the first transaction that is open
    seconds: float  #: age of the oldest record that is not in the warehouse; 0 when there is none
    seconds_since_commit: float

    @property
    def records(self) -> int:
        """Offsets that the warehouse lacks; markers of transactions count among them."""
        return max(self.end_offset - self.next_offset, 0)


def read_lag(connection: KafkaConnection, topic: str, progress: Sequence[Progress]) -> tuple[PartitionLag, ...]:
    """Compare what the warehouse has committed with the ends of the topic.

    Args:
        connection: the cluster.
        topic: the topic.
        progress: of the flow, from the warehouse.

    Raises:
        KafkaError: when the cluster does not answer, or has no such topic.
    """
    ends = read_topic_state(connection, topic).next_offsets
    behind = {each.partition: each.next_offset for each in progress if ends.get(each.partition, 0) > each.next_offset}
    ages = _ages(connection, topic, behind)
    return tuple(
        PartitionLag(
            partition=each.partition,
            next_offset=each.next_offset,
            end_offset=ends.get(each.partition, each.next_offset),
            seconds=ages.get(each.partition, 0.0),
            seconds_since_commit=each.seconds_since_commit,
        )
        for each in progress
    )


def _ages(connection: KafkaConnection, topic: str, offsets: Mapping[int, int]) -> dict[int, float]:
    """Seconds since the first record at or after each offset was written; markers have no age."""
    from confluent_kafka import Consumer, TopicPartition
    from confluent_kafka import KafkaError as Code

    if not offsets:
        return {}
    properties = {**PROPERTIES, "group.id": "workbench-lag", "auto.offset.reset": "earliest", "queued.min.messages": 1}
    consumer = Consumer({**connection.for_confluent(), **properties, "fetch.min.bytes": 1})
    ages: dict[int, float] = {}
    open_partitions = set(offsets)
    deadline = time.monotonic() + ANSWER_SECONDS
    try:
        consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in offsets.items()])
        while open_partitions and time.monotonic() < deadline:
            for message in consumer.consume(100, 0.2):
                if message.error() is not None:
                    if message.error().code() == Code._PARTITION_EOF:
                        open_partitions.discard(message.partition())
                elif message.partition() not in ages:
                    ages[message.partition()] = max(time.time() - message.timestamp()[1] / 1000, 0.0)
                    open_partitions.discard(message.partition())
    finally:
        consumer.close()
    return ages
