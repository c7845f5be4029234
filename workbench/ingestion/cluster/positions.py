"""Where topics end and how far groups have come, for many topics with one connection."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import KafkaError
from workbench.ingestion.cluster.connection import ANSWER_SECONDS, KafkaConnection
from workbench.ingestion.cluster.groups import Consumed, GroupReader, Offsets
from workbench.ingestion.cluster.watermarks import answer_of, no_such_topic, offsets_of, request_offsets

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

Refused = dict[str | Consumed, KafkaError]


@dataclass(frozen=True, kw_only=True)
class Positions:
    """What a cluster said at one moment. What it refused to say is in `refused`, and nowhere else."""

    topic_ids: Mapping[str, str]  #: by topic; one made anew under the same name has another (KIP-516)
    first_offsets: Mapping[str, Offsets]  #: of the oldest record that is kept, by topic
    next_offsets: Mapping[str, Offsets]  #: the end, before the first transaction that is open, by topic
    committed: Mapping[Consumed, Offsets]  #: of partitions that the group has committed an offset for
    refused: Mapping[str | Consumed, KafkaError]  #: by topic, or by group and topic


class PositionReader:
    """Asks one cluster, over a connection that stays. Not for several threads.

    Args:
        connection: the cluster; it is connected to when it is asked first.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._client: AdminClient | None = None
        self._groups = GroupReader(connection)

    def read(self, topics: Collection[str], consumed: Collection[Consumed] = ()) -> Positions:
        """Where these topics end now, and how far groups have come in them; within about two minutes, whatever happens.

        Args:
            topics: by name.
            consumed: groups, each with one of *topics*.

        Raises:
            KafkaError: when the cluster does not answer or does not let us in.
        """
        refused: Refused = {}
        partitions = self._partitions(topics, refused)
        ids = self._topic_ids(partitions, refused)
        # Before the ends: what is committed meanwhile never seems to be ahead of them.
        committed = self._committed([each for each in consumed if each[1] in ids], partitions, refused)
        asked = {topic: partitions[topic] for topic in ids}
        return Positions(
            topic_ids=ids,
            first_offsets=self._offsets(asked, refused, earliest=True),
            next_offsets=self._offsets(asked, refused, earliest=False),
            committed=committed,
            refused=refused,
        )

    def _admin(self) -> AdminClient:
        from confluent_kafka.admin import AdminClient

        if self._client is None:
            with self._connection.reported():
                self._client = AdminClient({**self._connection.for_confluent(), "log_level": 0})
        return self._client

    def _partitions(self, topics: Iterable[str], refused: Refused) -> dict[str, list[int]]:
        from confluent_kafka import KafkaException

        try:
            metadata = self._admin().list_topics(timeout=ANSWER_SECONDS)
        except KafkaException:
            self._connection.check()  # knows what is wrong, or that it is over
            with self._connection.reported():
                metadata = self._admin().list_topics(timeout=ANSWER_SECONDS)
        found: dict[str, list[int]] = {}
        for topic in topics:
            # One that we may not see is not listed.
            listed = metadata.topics.get(topic)
            if listed is None or listed.error:
                refused[topic] = no_such_topic(self._connection, topic, listed and listed.error)
            else:
                found[topic] = sorted(listed.partitions)
        return found

    def _topic_ids(self, topics: Collection[str], refused: Refused) -> dict[str, str]:
        from confluent_kafka import TopicCollection

        found: dict[str, str] = {}
        if not topics:
            return found
        answers = self._admin().describe_topics(TopicCollection(list(topics)), request_timeout=ANSWER_SECONDS)
        for topic, future in answers.items():
            try:
                with self._connection.reported():
                    found[topic] = str(answer_of(self._connection, future).topic_id)
            except KafkaError as error:
                refused[topic] = error
        return found

    def _committed(
        self, consumed: Collection[Consumed], partitions: Mapping[str, list[int]], refused: Refused
    ) -> dict[Consumed, Offsets]:
        asked = {each: partitions[each[1]] for each in consumed}
        found, errors = self._groups.committed(asked)
        for consumer, error in errors.items():
            refused[consumer] = error
        return found

    def _offsets(self, topics: Mapping[str, list[int]], refused: Refused, *, earliest: bool) -> dict[str, Offsets]:
        from confluent_kafka import TopicPartition
        from confluent_kafka.admin import OffsetSpec

        spec: Any = OffsetSpec.earliest() if earliest else OffsetSpec.latest()
        asked = {TopicPartition(topic, number): spec for topic, numbers in topics.items() for number in numbers}
        with self._connection.reported():
            answers = request_offsets(self._admin(), asked) if asked else {}
        found: dict[str, Offsets] = {}
        for topic in topics:
            try:
                with self._connection.reported():
                    own = {each: future for each, future in answers.items() if each.topic == topic}
                    found[topic] = offsets_of(self._connection, own)
            except KafkaError as error:
                refused[topic] = error
        return found
