"""Reads assigned partitions from given offsets, in batches, without consumer-group state of Kafka."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from workbench.errors import KafkaError
from workbench.ingestion.connection import KafkaConnection

POLL_SECONDS = 0.5
SILENCE_SECONDS = 30.0

PROPERTIES = {
    "group.id": "workbench",  # required by the client; we commit nothing to it
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    # The offset comes from the warehouse. If Kafka no longer has it, that is an error, not a jump.
    "auto.offset.reset": "error",
    "fetch.min.bytes": 100_000,
    "fetch.wait.max.ms": 50,
    "queued.min.messages": 200_000,
}


@dataclass(frozen=True)
class Batch:
    """Records of several partitions; `next_offsets` is where each partition goes on after it."""

    records: tuple[Any, ...]  #: confluent_kafka.Message
    next_offsets: Mapping[int, int]


class PartitionReader:
    """A consumer of one topic that starts where it is told; a context manager."""

    def __init__(self, connection: KafkaConnection, topic: str, offsets: Mapping[int, int], batch_records: int) -> None:
        self._connection = connection
        self._topic = topic
        self._offsets = dict(offsets)
        self._batch_records = batch_records
        self._consumer: Any = None

    def __enter__(self) -> Self:
        from confluent_kafka import Consumer, TopicPartition

        self._consumer = Consumer({**self._connection.for_confluent(), **PROPERTIES})
        self._consumer.assign(
            [TopicPartition(self._topic, partition, offset) for partition, offset in self._offsets.items()]
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def batches(self) -> Iterator[Batch]:
        """Yield batches until the end of every partition has been seen.

        Raises:
            KafkaError: when the brokers fall silent for 30 s or no longer have an offset.
        """
        open_partitions = set(self._offsets)
        pending: list[Any] = []
        silent = 0.0
        while open_partitions:
            messages = self._consumer.consume(self._batch_records - len(pending), POLL_SECONDS)
            silent = 0.0 if messages else silent + POLL_SECONDS
            if silent > SILENCE_SECONDS:
                raise self._connection.explain(f"no record of {self._topic} within {SILENCE_SECONDS:.0f} s")
            for message in messages:
                if message.error() is None:
                    pending.append(message)
                else:
                    open_partitions -= self._ended(message)
            if len(pending) >= self._batch_records:
                yield self._batch(pending)
                pending = []
        if pending:
            yield self._batch(pending)

    def _batch(self, records: list[Any]) -> Batch:
        next_offsets: dict[int, int] = {}
        for record in records:
            next_offsets[record.partition()] = record.offset() + 1
        return Batch(tuple(records), next_offsets)

    def _ended(self, message: Any) -> set[int]:
        from confluent_kafka import KafkaError as Code

        error = message.error()
        # librdkafka's own codes begin with an underscore; they are public.
        if error.code() == Code._PARTITION_EOF:
            return {message.partition()}
        if error.code() in {Code._AUTO_OFFSET_RESET, Code.OFFSET_OUT_OF_RANGE}:
            raise KafkaError(
                f"{self._topic} no longer has the offset that the warehouse asks for: {error.str()}",
                remedy="Records were removed before they were ingested (retention). Decide where to go on, then set the offsets in workbench.offsets.",
            )
        if error.retriable() or error.code() in {Code._ALL_BROKERS_DOWN, Code._TRANSPORT, Code._RESOLVE}:
            return set()  # librdkafka tries again by itself; silence is noticed above
        raise self._connection.explain(error.str())
