"""Proof that a table holds what a topic held: each record once, as a row or as a dead letter."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.errors import KafkaError, WarehouseError
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.watermarks import TopicState, read_topic_state
from workbench.ingestion.source import PROPERTIES, SILENCE_SECONDS
from workbench.loading import Mode, Progress, Warehouse

SHOWN = 5
FEW_GAPS = 50
CONSUMED = 10_000


@dataclass(frozen=True, kw_only=True)
class PartitionReport:
    """What was found of one partition, over the offsets [first, next) that the flow has committed."""

    partition: int
    first: int
    next: int
    rows: int
    dead: int
    missing: int  #: records of Kafka that are neither row nor dead letter
    doubled: int  #: offsets that are there more than once
    outside: int  #: rows that the flow has not committed, by their offsets
    unknown: int  #: offsets without a row that Kafka no longer keeps, so that nobody can tell
    lag: int  #: records that Kafka has and the flow has not read yet
    filtered: int = 0  #: records that the flow's own steps left out
    examples: tuple[int, ...] = ()  #: some of the offsets that are missing or doubled

    @property
    def is_right(self) -> bool:
        """Whether nothing is missing, doubled or outside."""
        return not (self.missing or self.doubled or self.outside)


@dataclass
class _Count:
    """How often each offset of a partition was found."""

    first: int
    times: npt.NDArray[np.uint8]
    rows: int = 0
    dead: int = 0
    outside: int = 0
    filtered: int = 0
    later: list[tuple[bool, npt.NDArray[np.int64]]] = field(default_factory=list)  # at or after the end; dead or not

    def leave_out(self, offsets: npt.NDArray[np.int64]) -> None:
        """Count what steps have left out; what is a row or a letter too is doubled."""
        inside = offsets[(offsets >= self.first) & (offsets < self.first + len(self.times))] - self.first
        self.times[inside] += 1
        self.filtered += len(inside)

    def add(self, offsets: npt.NDArray[np.int64], *, dead: bool) -> None:
        inside = offsets[(offsets >= self.first) & (offsets < self.first + len(self.times))] - self.first
        self.outside += int((offsets < self.first).sum())
        self.later.append((dead, offsets[offsets >= self.first + len(self.times)]))
        found, times = np.unique(inside, return_counts=True)
        self.times[found] = np.minimum(self.times[found] + times.astype(np.int64), 255).astype(np.uint8)
        self.rows += 0 if dead else len(offsets)
        self.dead += len(offsets) if dead else 0


def verify(connection: KafkaConnection, topic: str, warehouse: Warehouse, mode: Mode) -> tuple[PartitionReport, ...]:
    """Compare a topic with the table that a flow has made of it.

    Under `Mode.APPEND` every offset that holds a record must be there once. Offsets without a row
    are looked up in Kafka, because transactions and compaction leave gaps. Under `Mode.MERGE`
    the topic is read, and the last record of each key must be the row, or a tombstone.

    Args:
        connection: the cluster.
        topic: the topic.
        warehouse: that of the flow, entered.
        mode: how the flow writes.

    Raises:
        WarehouseError: when no flow has written the table from this topic.
        KafkaError: when the cluster does not answer.
    """
    progress = warehouse.progress()
    if not progress:
        raise WarehouseError(
            f"workbench.offsets knows of no flow from {topic} into this table",
            remedy="Check both names; `workbench lag` lists what has run.",
        )
    state = read_topic_state(connection, topic)
    counts = _count(warehouse, progress)
    _count_later(counts, {each.partition: each.next_offset for each in warehouse.progress()})
    if mode is Mode.MERGE:
        absent = _absent_of_merge(connection, topic, progress, counts, warehouse)
    else:
        absent = _absent_of_append(connection, topic, counts, state.first_offsets)
    offsets = {each.partition: each.next_offset for each in progress}
    return tuple(
        _report(partition, offsets.get(partition, 0), count, absent.get(partition, []), state=state, mode=mode)
        for partition, count in sorted(counts.items())
    )


def _report(
    partition: int, next_offset: int, count: _Count, missing: Sequence[int], *, state: TopicState, mode: Mode
) -> PartitionReport:
    doubled = np.flatnonzero(count.times > 1) + count.first
    unknown = 0
    if mode is Mode.APPEND:
        removed = min(max(state.first_offsets.get(partition, 0) - count.first, 0), len(count.times))
        unknown = int((count.times[:removed] == 0).sum())
    return PartitionReport(
        partition=partition,
        first=count.first,
        next=next_offset,
        rows=count.rows,
        dead=count.dead,
        missing=len(missing),
        doubled=len(doubled),
        outside=count.outside,
        filtered=count.filtered,
        unknown=unknown,
        lag=max(state.next_offsets.get(partition, next_offset) - next_offset, 0),
        examples=(*missing[:SHOWN], *map(int, doubled[:SHOWN])),
    )


def _count(warehouse: Warehouse, progress: Sequence[Progress]) -> dict[int, _Count]:
    counts = {}
    for each in progress:
        first = each.first_offset or 0  # before this was kept, flows began at the oldest record
        counts[each.partition] = _Count(first, np.zeros(max(each.next_offset - first, 0), np.uint8))
    for dead in (False, True):
        for found in warehouse.coordinates(dead=dead):
            batch = found.drop_null()  # rows that were there before the flow have no origin
            partitions, offsets = (batch.column(index).to_numpy(zero_copy_only=False) for index in (0, 1))
            for partition in np.unique(partitions):
                if int(partition) not in counts:
                    counts[int(partition)] = _Count(0, np.zeros(0, np.uint8))
                counts[int(partition)].add(offsets[partitions == partition], dead=dead)
    for batch in warehouse.filtered():
        partitions, offsets = (batch.column(index).to_numpy(zero_copy_only=False) for index in (0, 1))
        for partition in np.unique(partitions):
            if int(partition) in counts:
                counts[int(partition)].leave_out(offsets[partitions == partition])
    return counts


def _count_later(counts: Mapping[int, _Count], next_offsets: Mapping[int, int]) -> None:
    """Rows after the end are outside, unless a worker has committed them since its offsets were read."""
    for partition, count in counts.items():
        end = next_offsets.get(partition, 0)
        for dead, offsets in count.later:
            newer = int((offsets < end).sum())
            count.outside += len(offsets) - newer
            count.rows -= 0 if dead else newer
            count.dead -= newer if dead else 0


def _absent_of_append(
    connection: KafkaConnection, topic: str, counts: Mapping[int, _Count], firsts: Mapping[int, int]
) -> dict[int, list[int]]:
    """The offsets without a row at which Kafka has a record."""
    absent: dict[int, list[int]] = {}
    for partition, count in counts.items():
        empty = np.flatnonzero(count.times == 0) + count.first
        empty = empty[empty >= firsts.get(partition, 0)]
        wanted = set(empty.tolist())
        absent[partition] = []
        for start, end in offset_ranges(empty):
            found = (message.offset() for message in _records(connection, topic, partition, start, end))
            absent[partition] += [offset for offset in found if offset in wanted]
    return absent


def offset_ranges(offsets: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The offsets as ranges [start, end); one range over all when there are too many to go to each."""
    if not len(offsets):
        return []
    breaks = np.flatnonzero(np.diff(offsets) > 1)
    if len(breaks) >= FEW_GAPS:
        return [(int(offsets[0]), int(offsets[-1]) + 1)]
    starts = [int(offsets[0]), *(int(each) for each in offsets[breaks + 1])]
    ends = [*(int(each) + 1 for each in offsets[breaks]), int(offsets[-1]) + 1]
    return list(zip(starts, ends, strict=True))


def _absent_of_merge(
    connection: KafkaConnection,
    topic: str,
    progress: Sequence[Progress],
    counts: Mapping[int, _Count],
    warehouse: Warehouse,
) -> dict[int, list[int]]:
    """The last records of keys that are no row."""
    # What was set apart, as a letter or by a step, is no record of its key.
    dead = {
        (partition, offset)
        for batch in chain(warehouse.coordinates(dead=True), warehouse.filtered())
        for partition, offset in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
    }
    absent: dict[int, list[int]] = {}
    for each in progress:
        count = counts[each.partition]
        last: dict[bytes, tuple[int, bool]] = {}
        for message in _records(connection, topic, each.partition, count.first, each.next_offset):
            if (each.partition, message.offset()) in dead:
                continue
            if message.key() is None:
                raise KafkaError(
                    f"record {message.offset()} of partition {each.partition} of {topic} has no key",
                    remedy="A merge can be verified when the record's key is the key of the row.",
                )
            last[message.key()] = (message.offset(), message.value() is None)
        absent[each.partition] = sorted(
            offset
            for offset, is_tombstone in last.values()
            if not is_tombstone and not count.times[offset - count.first]
        )
        expected = {offset for offset, is_tombstone in last.values() if not is_tombstone}
        found = set((np.flatnonzero(count.times) + count.first).tolist())
        count.outside += len(found - expected - {offset for partition, offset in dead if partition == each.partition})
    return absent


def _records(connection: KafkaConnection, topic: str, partition: int, start: int, end: int) -> Iterator[Any]:
    """The committed records of a partition with offsets in [start, end)."""
    from confluent_kafka import Consumer, TopicPartition
    from confluent_kafka import KafkaError as Code

    consumer = Consumer(
        {**connection.for_confluent(), **PROPERTIES, "group.id": "workbench-verify", "auto.offset.reset": "earliest"}
    )
    try:
        consumer.assign([TopicPartition(topic, partition, start)])
        heard = time.monotonic()
        while True:
            messages = consumer.consume(CONSUMED, 0.5)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS:
                raise connection.explain(f"no record of {topic} within {SILENCE_SECONDS:.0f} s")
            for message in messages:
                if message.error() is not None:
                    if message.error().code() == Code._PARTITION_EOF:
                        return
                    if not message.error().retriable():
                        raise connection.explain(message.error().str())
                elif message.offset() >= end:
                    return
                else:
                    yield message
    finally:
        consumer.close()
