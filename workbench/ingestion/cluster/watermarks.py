"""What a cluster says of a topic: its identity, and the first and next offset of each partition."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from workbench.errors import KafkaError, KafkaUnavailable, NoSuchTopic
from workbench.ingestion.cluster.connection import ANSWER_SECONDS, KafkaConnection

# Past librdkafka's own limit, so that its error is the one that is told.
FUTURE_SECONDS = ANSWER_SECONDS + 1.0
PARTITIONS_SECONDS = 60.0
NO_SUCH_RECORD = -1  # the answer to a time that is after the last record


@dataclass(frozen=True, kw_only=True)
class TopicState:
    """A topic as it is now."""

    cluster_id: str
    topic_id: str  #: a topic made anew under the same name has another (KIP-516)
    first_offsets: Mapping[int, int]  #: of the oldest record that is kept, by partition
    next_offsets: Mapping[
        int, int
    ]  #: the first record of the oldest open transaction, else the end, by partition (read_committed)


def records_removed(what: str) -> KafkaError:
    """The error of who would have to go on behind a gap.

    Args:
        what: where the gap is, the message.
    """
    return KafkaError(
        what,
        remedy="Records were removed before they were ingested (retention). Decide where to go on, then set the offsets in workbench.offsets.",
    )


def cut_off(what: str) -> KafkaError:
    """The error of who has read further than a partition goes by now.

    Args:
        what: where that is, the message.
    """
    return KafkaError(
        what,
        remedy="The cluster has lost records that it had given out, and gives their offsets to those that come now: a flow would leave these out. Remove rows, dead letters and offsets as docs/ingestion.md says under Offsets, and begin anew.",
    )


def offset_missing(connection: KafkaConnection, topic: str, partition: int, offset: int) -> KafkaError:
    """The error of who reads at an offset that the cluster refuses.

    Retention is the cause only when the partition begins behind it. Else who begins again learns it: that the topic
    is another, that it ends before the offset, or that all is well by now.

    Raises:
        KafkaError: when the cluster does not answer, or has no such topic.
    """
    state = read_topic_state(connection, topic)
    first, end = state.first_offsets.get(partition, 0), state.next_offsets.get(partition, 0)
    if offset < first:
        return records_removed(
            f"partition {partition} of {topic} begins at offset {first}; the warehouse asks for {offset}"
        )
    return KafkaUnavailable(
        f"the cluster has refused the offset {offset} of partition {partition} of {topic}, whose records are {first} to {end}",
        remedy="Run the flow again. When the topic was made anew, or has lost its last records, that says so.",
    )


def refuse_cut_off(
    connection: KafkaConnection, topic: str, next_offsets: Mapping[int, int], ends: Mapping[int, int]
) -> None:
    """Refuse to go on beyond the end of a partition.

    Args:
        connection: the cluster.
        topic: the topic.
        next_offsets: where it is to go on, by partition.
        ends: where partitions ended a moment ago, or their oldest open transaction begins; who is
            beyond that asks the cluster anew.

    Raises:
        KafkaError: when a partition ends before that, or the cluster does not answer.
    """
    ahead = {each: offset for each, offset in sorted(next_offsets.items()) if offset > ends.get(each, 0)}
    now = _log_ends(connection, topic, ahead) if ahead else {}
    for partition, offset in ahead.items():
        if offset > now[partition]:
            raise cut_off(
                f"partition {partition} of {topic} ends at offset {now[partition]}, but has been ingested up to {offset}"
            )


def _log_ends(connection: KafkaConnection, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The ends themselves, whatever transactions are open."""
    from confluent_kafka import IsolationLevel, TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec

    request = {TopicPartition(topic, each): OffsetSpec.latest() for each in partitions}
    with connection.reported():
        admin = AdminClient({**connection.for_confluent(), "log_level": 0})
        everything = IsolationLevel.READ_UNCOMMITTED
        return offsets_of(
            connection, admin.list_offsets(request, isolation_level=everything, request_timeout=ANSWER_SECONDS)
        )


def read_topic_state(connection: KafkaConnection, topic: str) -> TopicState:
    """Ask the cluster about *topic*.

    Raises:
        KafkaError: when the cluster does not answer, refuses us, or has no such topic.
    """
    from confluent_kafka import KafkaException, TopicCollection, TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec

    # Held by a name: a client that is collected takes its requests with it.
    with connection.reported():
        admin = AdminClient({**connection.for_confluent(), "log_level": 0})
    try:
        metadata = admin.list_topics(topic, timeout=ANSWER_SECONDS / 5)
    except KafkaException:
        connection.check()  # knows what is wrong, or waits longer
        with connection.reported():
            metadata = admin.list_topics(topic, timeout=ANSWER_SECONDS)
    found = metadata.topics[topic]
    if found.error:
        raise no_such_topic(connection, topic, found.error)
    with connection.reported():
        descriptions = admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_SECONDS)
        partitions = [TopicPartition(topic, number) for number in sorted(found.partitions)]
        return TopicState(
            cluster_id=str(metadata.cluster_id),
            topic_id=str(answer_of(connection, descriptions[topic]).topic_id),
            first_offsets=_offsets(connection, admin, dict.fromkeys(partitions, OffsetSpec.earliest())),
            next_offsets=_offsets(connection, admin, dict.fromkeys(partitions, OffsetSpec.latest())),
        )


class EndOffsets:
    """The next offsets of topics, asked for again and again over one connection.

    Args:
        connection: the cluster.
        topics: their names; partitions that come later are seen after a minute.
    """

    def __init__(self, connection: KafkaConnection, topics: Iterable[str]) -> None:
        self._connection, self._topics = connection, frozenset(topics)
        self._admin: Any = None
        self._partitions: list[Any] = []
        self._known_at = 0.0

    def read(self) -> Mapping[str, Mapping[int, int]]:
        """Next offset by partition by topic; a topic that is not there is left out.

        Raises:
            KafkaError: when the cluster does not answer or refuses us.
        """
        from confluent_kafka.admin import OffsetSpec

        with self._connection.reported():
            if self._admin is None or time.monotonic() - self._known_at > PARTITIONS_SECONDS:
                self._look_up()
            answers = request_offsets(self._admin, dict.fromkeys(self._partitions, OffsetSpec.latest()))
            by_topic: dict[str, dict[Any, Future[Any]]] = {}
            for partition, future in answers.items():
                by_topic.setdefault(partition.topic, {})[partition] = future
            return {topic: offsets_of(self._connection, each) for topic, each in by_topic.items()}

    def _look_up(self) -> None:
        from confluent_kafka import KafkaException, TopicPartition
        from confluent_kafka.admin import AdminClient

        if self._admin is None:
            self._admin = AdminClient({**self._connection.for_confluent(), "log_level": 0})
        try:
            metadata = self._admin.list_topics(timeout=ANSWER_SECONDS / 5)
        except KafkaException:
            self._connection.check()  # knows what is wrong, or waits longer
            metadata = self._admin.list_topics(timeout=ANSWER_SECONDS)
        there = {name: topic for name, topic in metadata.topics.items() if name in self._topics and not topic.error}
        self._partitions = [
            TopicPartition(name, number) for name, topic in there.items() for number in topic.partitions
        ]
        self._known_at = time.monotonic()


def offsets_at(connection: KafkaConnection, topic: str, partitions: list[int], milliseconds: int) -> dict[int, int]:
    """Offset of the first record of each partition that is not older than *milliseconds* since 1970.

    Raises:
        KafkaError: when the cluster does not answer.
    """
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec

    asked = [TopicPartition(topic, number) for number in partitions]
    with connection.reported():
        admin = AdminClient(connection.for_confluent())
        found = _offsets(connection, admin, dict.fromkeys(asked, OffsetSpec.for_timestamp(milliseconds)))
        if NO_SUCH_RECORD in found.values():  # the end, then
            ends = _offsets(connection, admin, dict.fromkeys(asked, OffsetSpec.latest()))
            found = {number: ends[number] if offset == NO_SUCH_RECORD else offset for number, offset in found.items()}
    return found


def request_offsets(admin: Any, request: dict[Any, Any]) -> dict[Any, Future[Any]]:
    """Ask for the offsets of *request*, offset specifications by partition, each with its leader; `offsets_of` waits."""
    from confluent_kafka import IsolationLevel

    return dict(
        admin.list_offsets(request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_SECONDS)
    )


def offsets_of(connection: KafkaConnection, answers: Mapping[Any, Future[Any]]) -> dict[int, int]:
    """What leaders have answered about partitions of one topic.

    Raises:
        KafkaError: when one does not answer in time.
        KafkaException: as the client raises it; see `KafkaConnection.reported`.
    """
    found = {each.partition: int(answer_of(connection, future).offset) for each, future in answers.items()}
    # librdkafka 2.16 calls it a success when a leader was silent until the end, and gives its "no offset" (-1001).
    if silent := [number for number, offset in found.items() if offset < NO_SUCH_RECORD]:
        raise connection.explain(f"no answer for partition {', '.join(map(str, sorted(silent)))} in time")
    return found


def _offsets(connection: KafkaConnection, admin: Any, request: dict[Any, Any]) -> dict[int, int]:
    return offsets_of(connection, request_offsets(admin, request))


def answer_of(connection: KafkaConnection, future: Future[Any]) -> Any:
    """The result of a request of the admin client.

    Raises:
        KafkaError: when it does not come in time.
    """
    try:
        return future.result(FUTURE_SECONDS)
    except TimeoutError:
        raise connection.explain("no answer to a request in time") from None


def no_such_topic(connection: KafkaConnection, topic: str, error: Any) -> KafkaError:
    """The error of a topic that the metadata do not have.

    Args:
        connection: the cluster.
        topic: its name.
        error: what the metadata say of it; None when they do not name it.
    """
    from confluent_kafka import KafkaError as Code

    where = ",".join(connection.bootstrap_servers)
    if error is not None and error.code() == Code.TOPIC_AUTHORIZATION_FAILED:
        return KafkaError(
            f"{connection.username!r} may not see the topic {topic!r} on {where}",
            remedy="Ask for the right to read it (an ACL; see docs/topics.md).",
        )
    return NoSuchTopic(
        f"there is no topic {topic!r} on {where}",
        remedy="Add it to pipelines/topics.yaml and run `workbench topics apply`.",
    )
