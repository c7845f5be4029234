"""Sends records to a topic in bulk: idempotent, acknowledged by all replicas, every failure told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from workbench.errors import KafkaError
from workbench.ingestion.connection import KafkaConnection

FLUSH_SECONDS = 60.0
POLL_EVERY = 1000  # records between two looks at delivery reports

PROPERTIES = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 200_000,
    "partitioner": "murmur2_random",
}


@dataclass(frozen=True)
class OutgoingRecord:
    """A record before it has an offset."""

    value: bytes | None
    key: bytes | None = None
    partition: int = -1  #: -1 lets the key decide


def produce(
    connection: KafkaConnection,
    topic: str,
    records: Iterable[OutgoingRecord],
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Send *records* in their order and return how many the cluster has acknowledged.

    Args:
        connection: the cluster.
        topic: an existing topic.
        records: sent one after another; records of one partition keep their order.
        progress: called with the number of records sent since the last call.

    Raises:
        KafkaError: when a record was not acknowledged; the others may have been.
    """
    from confluent_kafka import Producer

    failures: list[str] = []

    def report(error: Any, _: Any) -> None:
        if error is not None:
            failures.append(error.str())

    producer = Producer({**connection.for_confluent(), **PROPERTIES})
    count = 0
    for count, record in enumerate(records, start=1):
        with connection.reported():
            _send(producer, topic, record, report)
        if count % POLL_EVERY == 0:
            producer.poll(0)
            progress(POLL_EVERY)
            if failures:
                break
    unsent = producer.flush(FLUSH_SECONDS)
    progress(count % POLL_EVERY)
    if failures or unsent:
        reason = failures[0] if failures else f"no acknowledgement within {FLUSH_SECONDS:.0f} s"
        raise KafkaError(
            f"{len(failures) + unsent} of {count} records for {topic} were not acknowledged: {reason}",
            remedy="See that the topic exists and the brokers are healthy, then send them again.",
        )
    return count


def _send(producer: Any, topic: str, record: OutgoingRecord, report: Callable[[Any, Any], None]) -> None:
    while True:
        try:
            producer.produce(topic, value=record.value, key=record.key, partition=record.partition, on_delivery=report)
        except BufferError:  # the local queue is full: deliver some first
            producer.poll(0.1)
        else:
            return


def stable_partition(key: bytes, partitions: int) -> int:
    """The partition of *key* whatever the client's version: CRC-32 modulo the number of partitions."""
    return crc32(key) % partitions
