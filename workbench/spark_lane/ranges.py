"""Which offsets one round of the lane covers, and how Spark's Kafka source is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.ingestion.cluster.watermarks import records_removed
from workbench.loading import Span


@dataclass(frozen=True)
class Round:
    """What one Spark job brings: a span of each partition that has something new."""

    topic: str
    spans: tuple[Span, ...]

    def source_options(self) -> dict[str, str]:
        """Options of Spark's Kafka source for exactly these offsets (structured-streaming-kafka-integration.md)."""
        partitions = [span.partition for span in self.spans]
        return {
            "assign": json.dumps({self.topic: partitions}),
            "startingOffsets": json.dumps({self.topic: {str(span.partition): span.start for span in self.spans}}),
            "endingOffsets": json.dumps({self.topic: {str(span.partition): span.end for span in self.spans}}),
            "failOnDataLoss": "true",
            "includeHeaders": "true",
            "kafka.isolation.level": "read_committed",
        }


def plan_round(
    topic: str, positions: Mapping[int, tuple[int, int]], ends: Mapping[int, int], *, most: int
) -> Round | None:
    """The next round; None when there is nothing new.

    Args:
        topic: what is read.
        positions: next offset and epoch of each partition, as the ledger has them.
        ends: where each partition ends now.
        most: records of one partition in one round.
    """
    spans = tuple(
        Span(partition, start, min(ends[partition], start + most), epoch)
        for partition, (start, epoch) in sorted(positions.items())
        if ends.get(partition, 0) > start
    )
    return Round(topic, spans) if spans else None


def refuse_lost_records(topic: str, positions: Mapping[int, tuple[int, int]], firsts: Mapping[int, int]) -> None:
    """Refuse to go on behind a gap.

    Raises:
        KafkaError: when Kafka has removed records that were not ingested.
    """
    for partition, (start, _) in sorted(positions.items()):
        if firsts.get(partition, 0) > start:
            raise records_removed(
                f"partition {partition} of {topic} begins at offset {firsts[partition]}; the warehouse asks for {start}"
            )
