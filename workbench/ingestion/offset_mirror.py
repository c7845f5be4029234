"""Tells Kafka how far the warehouse is, for tools that look there. Nobody here relies on it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from workbench.loading import Span

logger = logging.getLogger(__name__)

MIRROR_SECONDS = 1.0  # between two commits to Kafka


class OffsetMirror:
    """Offsets of one topic that are committed to the warehouse, on their way to Kafka.

    Any thread tells of them; the thread that reads sends them, because the client takes one at a time.

    Args:
        topic: the topic.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._untold: dict[int, int] = {}  # committed to the warehouse, and not told to Kafka yet
        self._untold_lock = threading.Lock()
        self._sent_at = 0.0

    def add(self, spans: Iterable[Span]) -> None:
        """Remember the ends of *spans* until the next `send`; from any thread."""
        with self._untold_lock:
            self._untold |= {span.partition: span.end for span in spans}

    def send(self, consumer: Any) -> None:
        """Commit what was added, once a second at most; by the thread that reads.

        Args:
            consumer: the client that reads, a confluent_kafka.Consumer.
        """
        from confluent_kafka import KafkaException, TopicPartition

        if not self._untold or time.monotonic() - self._sent_at < MIRROR_SECONDS:
            return
        self._sent_at = time.monotonic()
        with self._untold_lock:
            committed, self._untold = self._untold, {}
        try:
            consumer.commit(
                offsets=[TopicPartition(self._topic, *each) for each in committed.items()], asynchronous=True
            )
        except KafkaException as error:  # not a member at this moment
            logger.debug("offsets were not mirrored: %s", error)

    def send_last(self, consumer: Any) -> None:
        """Commit what was added, however short the last time is ago: before *consumer* is closed."""
        self._sent_at = 0.0
        self.send(consumer)
