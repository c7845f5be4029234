"""The columns of a topic, from a look at its first records."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

from workbench.errors import KafkaError
from workbench.ingestion.cluster.connection import ANSWER_SECONDS, KafkaConnection
from workbench.ingestion.cluster.watermarks import read_topic_state
from workbench.ingestion.decoding import Decoder
from workbench.ingestion.source import PROPERTIES

SAMPLE_RECORDS = 1000


def infer_columns(connection: KafkaConnection, topic: str, decoder: Decoder) -> pa.Schema:
    """The columns that hold the oldest records of each partition, a thousand in all.

    Args:
        connection: the cluster.
        topic: the topic.
        decoder: one that gives every field.

    Raises:
        KafkaError: when the topic has no records, or none can be decoded.
    """
    values = [message.value() for message in _sample(connection, topic)]
    decoded = decoder.decode(values)
    if not decoded.rows.num_rows:
        reason = f": {decoded.undecodable[0].reason}" if decoded.undecodable else ", because it has none"
        raise KafkaError(
            f"no columns can be inferred from the records of {topic}{reason}",
            remedy="Declare the columns of the flow.",
        )
    return pa.schema(list(decoded.rows.schema))


def _sample(connection: KafkaConnection, topic: str) -> list[Any]:
    from confluent_kafka import Consumer, TopicPartition

    state = read_topic_state(connection, topic)
    share = max(SAMPLE_RECORDS // max(len(state.first_offsets), 1), 1)
    wanted = {each: min(state.next_offsets[each] - first, share) for each, first in state.first_offsets.items()}
    wanted = {partition: count for partition, count in wanted.items() if count}
    found: dict[int, list[Any]] = {partition: [] for partition in wanted}
    properties = {**PROPERTIES, "group.id": "workbench-sample", "fetch.min.bytes": 1, "auto.offset.reset": "earliest"}
    consumer = Consumer({**connection.for_confluent(), **properties})
    ended: set[int] = set()
    deadline = time.monotonic() + ANSWER_SECONDS
    try:
        consumer.assign([TopicPartition(topic, each, state.first_offsets[each]) for each in wanted])
        while time.monotonic() < deadline and any(
            len(found[each]) < count for each, count in wanted.items() if each not in ended
        ):
            for message in consumer.consume(SAMPLE_RECORDS, 0.2):
                if message.error() is not None:
                    ended.add(message.partition())
                elif len(found[message.partition()]) < wanted[message.partition()]:
                    found[message.partition()].append(message)
    finally:
        consumer.close()
    return [message for messages in found.values() for message in messages]
