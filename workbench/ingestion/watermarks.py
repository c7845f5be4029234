"""What a cluster says of a topic: its identity, and the first and next offset of each partition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.errors import KafkaError
from workbench.ingestion.connection import ANSWER_SECONDS, KafkaConnection


@dataclass(frozen=True, kw_only=True)
class TopicState:
    """A topic as it is now."""

    cluster_id: str
    topic_id: str  #: a topic made anew under the same name has another (KIP-516)
    first_offsets: Mapping[int, int]  #: of the oldest record that is kept, by partition
    next_offsets: Mapping[int, int]  #: of the record that will be written next, by partition


def read_topic_state(connection: KafkaConnection, topic: str) -> TopicState:
    """Ask the cluster about *topic*.

    Raises:
        KafkaError: when the cluster does not answer, refuses us, or has no such topic.
    """
    from confluent_kafka import Consumer, TopicCollection, TopicPartition
    from confluent_kafka.admin import AdminClient

    cluster_id = connection.check()
    consumer = Consumer({**connection.for_confluent(), "group.id": "workbench-watermarks", "enable.auto.commit": False})
    try:
        with connection.reported():
            found = consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
            if found.error:
                raise KafkaError(
                    f"there is no topic {topic!r} on {','.join(connection.bootstrap_servers)}",
                    remedy="Add it to pipelines/topics.yaml and run `workbench topics apply`.",
                )
            marks = {
                number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=ANSWER_SECONDS)
                for number in sorted(found.partitions)
            }
            # Held by a name: a client that is collected takes its requests with it.
            admin = AdminClient(connection.for_confluent())
            description = admin.describe_topics(TopicCollection([topic]))[topic]
            topic_id = str(description.result(ANSWER_SECONDS).topic_id)
    finally:
        consumer.close()
    return TopicState(
        cluster_id=cluster_id,
        topic_id=topic_id,
        first_offsets={number: low for number, (low, _) in marks.items()},
        next_offsets={number: high for number, (_, high) in marks.items()},
    )
