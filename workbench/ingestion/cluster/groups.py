"""How far consumer groups have come.

Asked by a consumer of the group that never joins it. An admin client would do without, but
librdkafka ends the whole process when the coordinator that it asks has just moved, as when a broker
was started again, or a group is new (github.com/confluentinc/librdkafka/issues/5040; librdkafka 2.16).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from workbench.errors import KafkaError
from workbench.ingestion.cluster.connection import ANSWER_SECONDS, KafkaConnection

if TYPE_CHECKING:
    from confluent_kafka import Consumer

Offsets = Mapping[int, int]  #: by partition
Consumed = tuple[str, str]  #: a group, and a topic that it reads
AT_ONCE = 8


class GroupReader:
    """Asks one cluster, over a connection for each group that stays while it is asked about. Not for several threads.

    Args:
        connection: the cluster; it is connected to when it is asked first.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._consumers: dict[str, Consumer] = {}

    def committed(
        self, asked: Mapping[Consumed, Iterable[int]]
    ) -> tuple[dict[Consumed, Offsets], dict[Consumed, KafkaError]]:
        """Offsets that groups have committed, of partitions for which there is one; and what was refused.

        Args:
            asked: partitions by group and topic.
        """
        found: dict[Consumed, Offsets] = {}
        refused: dict[Consumed, KafkaError] = {}
        self._hold({group for group, _ in asked})

        def ask(consumed: Consumed) -> None:
            try:
                found[consumed] = self._ask(*consumed, asked[consumed])
            except KafkaError as error:
                refused[consumed] = error

        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(ask, asked))
        return found, refused

    def _hold(self, groups: set[str]) -> None:
        from confluent_kafka import Consumer

        for group in self._consumers.keys() - groups:
            self._consumers.pop(group).close()
        for group in groups - self._consumers.keys():
            with self._connection.reported():
                self._consumers[group] = Consumer(
                    {
                        **self._connection.for_confluent(),
                        "group.id": group,
                        "enable.auto.commit": False,
                        "log_level": 0,
                    }
                )

    def _ask(self, group: str, topic: str, partitions: Iterable[int]) -> Offsets:
        from confluent_kafka import KafkaException, TopicPartition

        with self._connection.reported():
            wanted = [TopicPartition(topic, number) for number in partitions]
            answers = self._consumers[group].committed(wanted, timeout=ANSWER_SECONDS)
            for each in answers:
                if each.error is not None:
                    raise KafkaException(each.error)
        # Below zero: nothing was committed.
        return {each.partition: each.offset for each in answers if each.offset >= 0}
