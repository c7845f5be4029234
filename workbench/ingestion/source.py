"""Where the records of a flow come from: assigned partitions up to their end, or a share of a consumer group.

Kafka's own offsets are never read: each partition begins where the warehouse says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from workbench.ingestion.batch import Batch, BatchLimits, Chunk
from workbench.ingestion.certificate_watch import CertificateWatch
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.watermarks import cut_off, offset_missing
from workbench.ingestion.offset_mirror import OffsetMirror
from workbench.ingestion.stalled import Stalled
from workbench.loading import Claim, Span

POLL_SECONDS = 0.1
POLLED_BYTES = 16_000_000
POLLED_RECORDS = 20_000
SILENCE_SECONDS = 30.0
PROPERTIES = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "allow.auto.create.topics": False,
    # The offset comes from the warehouse. If Kafka no longer has it, that is an error, not a jump.
    "auto.offset.reset": "error",
    "partition.assignment.strategy": "cooperative-sticky",
    "fetch.min.bytes": 100_000,
    "fetch.wait.max.ms": 50,
    # A small queue bounds the memory. When it is full the client waits this long before it
    # fetches again: with its default of a second, reading stops most of the time.
    "fetch.queue.backoff.ms": 5,
    "queued.min.messages": 50_000,
    "queued.max.messages.kbytes": 16_384,
}


class Source:
    """Reads one topic; a context manager, for one thread.

    Args:
        connection: the cluster.
        topic: the topic.
        group: name of the consumer group.
        limits: when a batch is complete.
        claim: gives the claims of partitions that this worker now reads.
        settle: called before partitions go to another worker; takes the batch that is complete so
            far and returns when it and all before it are committed, or when that takes too long.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        *,
        group: str,
        limits: BatchLimits,
        claim: Callable[[Sequence[int]], Sequence[Claim]],
        settle: Callable[[Batch | None], None],
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._group = group
        self._limits = limits
        self._claim = claim
        self._settle = settle
        self._consumer: Any = None
        self._claims: dict[int, Claim] = {}  # next_offset is where the next batch begins
        self._positions: dict[int, int] = {}  # after the last record that was read, or the end that was seen
        self._chunks: list[Chunk] = []
        self._pending = 0
        self._pending_bytes = 0
        self._since = 0.0
        self._failure: BaseException | None = None
        self._closing = False
        self._paused = False
        self._certificates = CertificateWatch(connection)
        self._mirror = OffsetMirror(topic)

    def __enter__(self) -> Self:
        from confluent_kafka import Consumer

        session = round(self._limits.session_seconds * 1000)
        sharing = {"group.id": self._group, "session.timeout.ms": session, "heartbeat.interval.ms": session // 5}
        told = {"error_cb": self._certificates.on_error}
        with self._connection.reported():
            self._consumer = Consumer({**self._connection.for_confluent(), **PROPERTIES, **sharing, **told})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._mirror.send_last(self._consumer)
        self._consumer.close()

    def assign(self, partitions: Sequence[int]) -> None:
        """Read these partitions, whoever else does."""
        self._consumer.assign(self._begin(partitions))

    def subscribe(self) -> None:
        """Share the topic with the other members of the group (KIP-429)."""
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._guarded(self._on_assign),
            on_revoke=self._guarded(self._on_revoke),
            on_lost=self._guarded(self._on_lost),
        )

    @property
    def positions(self) -> Mapping[int, int]:
        """Where reading has come to in the partitions that are ours."""
        return self._positions

    def poll(self) -> bool:
        """Read what there is, for a tenth of a second at most; whether records came.

        Raises:
            KafkaError: when the cluster refuses us, or no longer has an offset.
        """
        self._mirror.send(self._consumer)
        messages = self._consumer.consume(self._room(), POLL_SECONDS)
        if self._failure is not None:
            raise self._failure
        self._certificates.check()
        return bool(messages) and self._take_in(messages)

    def is_complete(self) -> bool:
        """Whether the batch should be cut now."""
        return self._has_news() and (
            self._pending >= self._limits.records
            or self._pending_bytes >= self._limits.size_bytes
            or time.monotonic() - self._since >= self._limits.age_seconds
        )

    def cut(self) -> Batch | None:
        """The batch of all that was read since the last one; None when nothing was."""
        if not self._has_news():
            return None
        spans = tuple(
            Span(partition, claim.next_offset, self._positions[partition], claim.epoch)
            for partition, claim in sorted(self._claims.items())
            if self._positions[partition] > claim.next_offset
        )
        for span in spans:
            self._claims[span.partition] = Claim(span.partition, span.end, span.epoch)
        chunks, size_bytes = self._chunks, self._pending_bytes
        self._chunks, self._pending, self._pending_bytes = [], 0, 0
        return Batch(
            messages=[message for chunk in chunks for message in chunk.messages],
            values=[value for chunk in chunks for value in chunk.values],
            partitions=np.concatenate([chunk.partitions for chunk in chunks]) if chunks else np.empty(0, np.int32),
            offsets=np.concatenate([chunk.offsets for chunk in chunks]) if chunks else np.empty(0, np.int64),
            spans=spans,
            size_bytes=size_bytes,
        )

    def wait(self) -> None:
        """Stay a member of the group while nothing more can be taken in: partitions are paused."""
        if not self._paused:
            self._consumer.pause(self._consumer.assignment())
            self._paused = True
        # A partition that is assigned meanwhile may give records before it is paused: they count.
        messages = self._consumer.consume(1, POLL_SECONDS)
        if self._failure is not None:
            raise self._failure
        if messages:
            self._take_in(messages)

    def go_on(self) -> bool:
        """End what `wait` began; whether it had."""
        paused, self._paused = self._paused, False
        if paused:
            self._consumer.resume(self._consumer.assignment())
        return paused

    def mirror(self, spans: Iterable[Span]) -> None:
        """Tell Kafka how far the warehouse is, for tools that look there; from any thread. Nobody relies on it."""
        self._mirror.add(spans)

    def _take_in(self, messages: list[Any]) -> bool:
        """Keep the records of partitions that are ours; whether there were any."""
        from confluent_kafka import Message

        notes = (
            [message for message in messages if message.error() is not None]
            if any(map(Message.error, messages))
            else []
        )
        chunk = self._ours([message for message in messages if message.error() is None] if notes else messages)
        for partition in np.unique(chunk.partitions):
            offsets = chunk.offsets[chunk.partitions == partition]
            if int(offsets[0]) < self._positions[int(partition)] or (np.diff(offsets) <= 0).any():
                # Of an assignment that is over: nothing that was read since can be trusted to be all.
                raise Stalled(f"records of partition {partition} of {self._topic} came a second time")
            self._advance(int(partition), int(offsets[-1]) + 1)
        self._chunks.append(chunk)
        self._pending += len(chunk.messages)
        self._pending_bytes += chunk.size_bytes
        for note in notes:  # after the records that came before them
            self._note(note)
        return bool(chunk.messages)

    def _room(self) -> int:
        average = self._pending_bytes // self._pending if self._pending else 1000
        most = POLLED_BYTES // max(average, 1)
        return max(1, min(self._limits.records - self._pending, most, POLLED_RECORDS))

    def _has_news(self) -> bool:
        return any(self._positions[partition] > claim.next_offset for partition, claim in self._claims.items())

    def _advance(self, partition: int, position: int) -> None:
        if not self._has_news():
            self._since = time.monotonic()
        self._positions[partition] = max(self._positions[partition], position)

    def _ours(self, messages: list[Any]) -> Chunk:
        """The records of partitions that are still ours: a rebalance may come in the midst of a poll."""
        from confluent_kafka import Message

        count = len(messages)
        partitions = np.fromiter(map(Message.partition, messages), np.int32, count)
        if not set(np.unique(partitions).tolist()) <= self._claims.keys():
            return self._ours([message for message in messages if message.partition() in self._claims])
        offsets = np.fromiter(map(Message.offset, messages), np.int64, count)
        return Chunk(messages, list(map(Message.value, messages)), partitions, offsets)

    def _begin(self, partitions: Sequence[int]) -> list[Any]:
        from confluent_kafka import TopicPartition

        claims = self._claim(partitions)
        for claim in claims:
            self._claims[claim.partition] = claim
            self._positions[claim.partition] = claim.next_offset
        return [TopicPartition(self._topic, claim.partition, claim.next_offset) for claim in claims]

    def _guarded(self, callback: Callable[[Any, list[Any]], None]) -> Callable[[Any, list[Any]], None]:
        """The callback with its errors kept: librdkafka cannot carry them through."""

        def call(consumer: Any, partitions: list[Any]) -> None:
            try:
                callback(consumer, partitions)
            except BaseException as error:  # noqa: BLE001 - raised again by the poll that led here
                self._failure = error

        return call

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        # Told even when there is nothing new: the client waits for the answer.
        begun = self._begin([each.partition for each in partitions]) if partitions else []
        consumer.incremental_assign(begun)
        if self._paused and begun:
            consumer.pause(begun)

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        # While paused, a batch before this one still waits to be handed over: what comes after it
        # cannot be committed now, and is read again by the next owner.
        if not self._closing and not self._paused:
            self._settle(self.cut())
        self._let_go(consumer, partitions)

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        self._let_go(consumer, partitions)

    def _let_go(self, consumer: Any, partitions: list[Any]) -> None:
        gone = {each.partition for each in partitions}
        for partition in gone:
            self._claims.pop(partition, None)
            self._positions.pop(partition, None)
        self._chunks = [self._ours(chunk.messages) for chunk in self._chunks]
        self._pending = sum(len(chunk.messages) for chunk in self._chunks)
        self._pending_bytes = sum(chunk.size_bytes for chunk in self._chunks)
        consumer.incremental_unassign(partitions)

    def _note(self, message: Any) -> None:
        """Take in what a message without a record says: the end of a partition, or an error."""
        from confluent_kafka import KafkaError as Code

        error = message.error()
        # librdkafka's own codes begin with an underscore; they are public.
        if error.code() == Code._PARTITION_EOF:
            if message.partition() in self._claims:
                self._advance(message.partition(), message.offset())
        elif error.code() in {Code._AUTO_OFFSET_RESET, Code.OFFSET_OUT_OF_RANGE}:
            raise offset_missing(self._connection, self._topic, message.partition(), message.offset())
        elif error.code() == Code._LOG_TRUNCATION:
            raise cut_off(f"partition {message.partition()} of {self._topic} was cut off or made anew: {error.str()}")
        elif error.code() == Code._MAX_POLL_EXCEEDED:
            raise Stalled(f"the consumer of {self._topic} was put out of its group: {error.str()}")
        elif not error.retriable() and error.code() not in {Code._ALL_BROKERS_DOWN, Code._TRANSPORT, Code._RESOLVE}:
            raise self._connection.explain(error.str())
