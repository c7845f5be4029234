"""Sends records to a topic in bulk: idempotent, acknowledged by all replicas, every failure told.

A transaction makes its records readable together or not at all, for readers with
`isolation.level=read_committed`, as ours are (KIP-98; which errors are tried again, KIP-360).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from workbench.errors import KafkaError
from workbench.ingestion.cluster.connection import KafkaConnection

FLUSH_SECONDS = 60.0
INTERRUPT_SECONDS = 5.0  # for what is on its way already when somebody interrupts
TRANSACTION_SECONDS = 30.0  # to begin, commit or abort
ATTEMPT_SECONDS = 2.0
PAUSE_SECONDS = 0.1
SLICE_SECONDS = 0.5  # an interrupt is noticed between two calls of the client
POLL_EVERY = 1000  # records between two looks at delivery reports

PROPERTIES = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 200_000,
    "message.max.bytes": 100_000_000,  # the topic's own limit decides (max.message.bytes)
    "partitioner": "murmur2_random",
}


@dataclass(frozen=True)
class OutgoingRecord:
    """A record before it has an offset."""

    value: bytes | None
    key: bytes | None = None
    partition: int = -1  #: -1 lets the key decide
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_milliseconds: int = 0  #: since 1970 in UTC; 0 is the time of sending


class Delivery:
    """Counts what the brokers say of the records that were handed over."""

    def __init__(self) -> None:
        self.handed = 0
        self.acknowledged = 0
        self.failures: list[str] = []

    def report(self, error: Any, _: Any) -> None:
        """What librdkafka calls for each record."""
        if error is None:
            self.acknowledged += 1
        else:
            self.failures.append(error.str())


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
        KeyboardInterrupt: which says how many were acknowledged; what had not left is dropped.
    """
    from confluent_kafka import Producer

    delivery = Delivery()
    producer = Producer({**connection.for_confluent(), **PROPERTIES})
    try:
        with connection.reported():
            _hand_over(producer, topic, records, delivery, progress)
        unsent = _flush(producer, FLUSH_SECONDS)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_stop(producer, topic, delivery)) from None
    except Exception as error:  # of the rows, for one: what was handed over before is sent
        _flush(producer, FLUSH_SECONDS)
        error.add_note(f"{delivery.acknowledged} records for {topic} were acknowledged before.")
        raise
    progress(delivery.handed % POLL_EVERY)
    _check_delivered(topic, delivery, unsent)
    return delivery.acknowledged


@contextmanager
def transaction(connection: KafkaConnection, transactional_id: str) -> Iterator[TransactionalProducer]:
    """One transaction: committed at the end of the block, aborted when the block raises.

    Args:
        connection: the cluster.
        transactional_id: of whoever writes. A later producer with the same id fences this one
            off, and aborts what it has not committed.

    Raises:
        KafkaError: when the transaction was aborted, this producer was fenced, or nobody answers.

    Example:
        >>> with transaction(connection, "prices-nightly") as producer:
        ...     producer.produce("prices", encode_rows(rows))
    """
    from confluent_kafka import KafkaException, Producer

    properties = {**connection.for_confluent(), **PROPERTIES, "transactional.id": transactional_id}
    client = Producer(properties)
    producer = TransactionalProducer(connection, transactional_id, client)
    try:
        _until_done(client.init_transactions)
        client.begin_transaction()
    except KafkaException as error:
        raise producer.explain(error) from None
    try:
        yield producer
        _flush(client, FLUSH_SECONDS)  # what was not delivered makes the commit fail
        _until_done(client.commit_transaction)
    except BaseException as error:
        with suppress(KafkaException):  # fenced, or nobody answers: the cluster aborts by itself
            _until_done(client.abort_transaction)
        if isinstance(error, KafkaException):
            raise producer.explain(error) from None
        raise


class TransactionalProducer:
    """Sends records inside a transaction; `transaction` makes it."""

    def __init__(self, connection: KafkaConnection, transactional_id: str, client: Any) -> None:
        self._connection = connection
        self._id = transactional_id
        self._client = client
        self._delivery = Delivery()

    def produce(self, topic: str, records: Iterable[OutgoingRecord]) -> None:
        """Hand *records* over. Whether they arrived is told at the end of the transaction."""
        _hand_over(self._client, topic, records, self._delivery)

    def explain(self, exception: Any) -> KafkaError:
        """The error for what the client raised."""
        from confluent_kafka import KafkaError as Code

        error = exception.args[0]
        # librdkafka's own codes begin with an underscore; they are public.
        if error.code() in {Code._FENCED, Code.PRODUCER_FENCED, Code.INVALID_PRODUCER_EPOCH}:  # noqa: SLF001
            return KafkaError(
                f"another producer with the transactional id {self._id!r} has started; this one was fenced off and its transaction aborted",
                remedy="Run one producer for each transactional id.",
            )
        if error.txn_requires_abort():
            reason = self._delivery.failures[0] if self._delivery.failures else error.str()
            return KafkaError(
                f"the transaction {self._id!r} was aborted, none of its records can be read: {reason}",
                remedy="See that the topics exist and the brokers are healthy, then send them again.",
            )
        if error.retriable():
            return KafkaError(
                f"the transaction {self._id!r} was not answered within {TRANSACTION_SECONDS:.0f} s; a commit may have been made: {error.str()}",
                remedy="See what the topics hold before you send the records again.",
            )
        return self._connection.explain(error.str())


def stable_partition(key: bytes, partitions: int) -> int:
    """The partition of *key* whatever the client's version: CRC-32 modulo the number of partitions."""
    return crc32(key) % partitions


def _hand_over(
    producer: Any,
    topic: str,
    records: Iterable[OutgoingRecord],
    delivery: Delivery,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Put *records* into the producer's queue; ends early after a failure, which is told at the end."""
    for count, record in enumerate(records, start=1):
        _send(producer, topic, record, delivery)
        if count % POLL_EVERY == 0:
            producer.poll(0)
            progress(POLL_EVERY)
            if delivery.failures:
                return


def _send(producer: Any, topic: str, record: OutgoingRecord, delivery: Delivery) -> None:
    while True:
        try:
            producer.produce(
                topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                on_delivery=delivery.report,
                timestamp=record.timestamp_milliseconds,
                headers=list(record.headers) or None,
            )
        except BufferError:  # the local queue is full: deliver some first
            producer.poll(0.1)
        else:
            delivery.handed += 1
            return


def _stop(producer: Any, topic: str, delivery: Delivery) -> str:
    """Drop what has not left, wait shortly for what has, and say what became of the records."""
    producer.purge(in_queue=True, in_flight=False)
    unknown = producer.flush(INTERRUPT_SECONDS)
    # An interrupt inside of a report loses it: the count may be one too low.
    told = f"interrupted: at least {delivery.acknowledged} records for {topic} were acknowledged, {len(delivery.failures)} were not sent"
    return f"{told}, of {unknown} it is not known" if unknown else told


def _check_delivered(topic: str, delivery: Delivery, unsent: int) -> None:
    """Raise KafkaError unless every record was acknowledged."""
    if not delivery.failures and not unsent:
        return
    reason = delivery.failures[0] if delivery.failures else f"no acknowledgement within {FLUSH_SECONDS:.0f} s"
    missing = len(delivery.failures) + unsent
    raise KafkaError(
        f"{missing} of {delivery.handed} records for {topic} were not acknowledged: {reason}",
        remedy="See that the topic exists and the brokers are healthy, then send them again.",
    )


def _flush(producer: Any, seconds: float) -> int:
    """Wait until everything is delivered or failed; returns how many records are neither."""
    deadline = time.monotonic() + seconds
    while (unsent := int(producer.flush(SLICE_SECONDS))) and time.monotonic() < deadline:
        pass
    return unsent


def _until_done(call: Callable[[float], object]) -> None:
    """Repeat a call of a transaction while its error says that repeating helps."""
    from confluent_kafka import KafkaException

    deadline = time.monotonic() + TRANSACTION_SECONDS
    while True:
        try:
            call(ATTEMPT_SECONDS)
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)
        else:
            return
