"""What a task of the Spark lane writes, and what it does not, in every warehouse; the records are in Kafka."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pyarrow as pa
import pytest

from tests.contracts.conftest import World
from workbench.ingestion.batch import BatchLimits
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.decoding.contract import Contract
from workbench.ingestion.decoding.json import JsonDecoder
from workbench.ingestion.loads import LoadBuilder
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.loading import Claim, Span
from workbench.spark_lane.tasks import Work

COLUMNS = pa.schema([pa.field("n", pa.int64())])
CLUSTER, TOPIC = "cluster-1", "topic-1"


@pytest.fixture
def connection(settings, world) -> KafkaConnection:
    """The cluster, in which the topic of the world is."""
    found = KafkaConnection.from_settings(settings.kafka)
    apply_topics(found, [Topic(name=world.topic, partitions=1)])
    return found


def task(world: World, connection: KafkaConnection, *, end: int) -> Work:
    """A task of a driver that has just become the owner of partition 0."""
    loads = LoadBuilder(world.target(), (), pa.schema([]))
    warehouse = world.open()
    table = warehouse.prepare(loads.columns(COLUMNS))
    claim: Claim = warehouse.claim(CLUSTER, TOPIC, {0: 0})[0]
    return Work(
        connection=connection,
        topic=world.topic,
        group="workbench-test",
        spans=(Span(0, 0, end, claim.epoch),),
        open_warehouse=partial(world.make, world.target()),
        make_decoder=partial(decoder, COLUMNS),
        loads=loads,
        table=table,
        limits=BatchLimits(records=4, age_seconds=60.0),
        outage_seconds=1.0,
    )


def decoder(columns: pa.Schema, _: pa.Schema) -> JsonDecoder:
    return JsonDecoder(columns, Contract.IGNORE)


def send(connection: KafkaConnection, world: World, values: list[bytes]) -> None:
    produce(connection, world.topic, [OutgoingRecord(value, partition=0) for value in values])


def run(work: Work) -> list[dict[str, object]]:
    """What the task reports that is given the number of the only span."""
    numbers = pa.RecordBatch.from_arrays([pa.array([0], pa.int64())], names=["id"])
    return [row for report in work(iter([numbers])) for row in report.to_pylist()]


def numbers(world: World) -> list[int]:
    return [n for (n,) in world.query("SELECT n FROM {s}.rows ORDER BY n")]


def position(world: World) -> int:
    return world.count(f"SELECT next_offset FROM workbench.offsets WHERE topic = '{world.topic}'")


def test_a_task_that_spark_runs_again_goes_on_where_the_ledger_is(world, connection):
    send(connection, world, [b'{"n":%d}' % n for n in range(12)])
    work = task(world, connection, end=12)
    cut_short = replace(work, spans=(replace(work.spans[0], end=4),))

    died, again, once_more = run(cut_short), run(work), run(work)

    assert [each["records"] for each in died] == [4]
    assert [each["records"] for each in again] == [4, 4]
    assert once_more == []
    assert numbers(world) == list(range(12))
    assert position(world) == 12


def test_a_task_of_a_driver_that_was_taken_over_writes_nothing(world, connection):
    send(connection, world, [b'{"n":%d}' % n for n in range(4)])
    old, new = task(world, connection, end=4), task(world, connection, end=4)

    (report,) = run(old)
    assert report["error"] == "TakenOver"
    assert numbers(world) == []

    run(new)
    assert numbers(world) == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [b"{broken", b"\xff"])
def test_what_does_not_fit_is_a_dead_letter_of_the_same_transaction(world, connection, value):
    send(connection, world, [b'{"n":0}', b'{"n":1}', value, value])

    (report,) = run(task(world, connection, end=4))

    assert (report["rows"], report["dead"], report["error"]) == (2, 2, None)
    assert numbers(world) == [0, 1]
    found = world.query("SELECT record_offset, record_value FROM {s}.dead_letters ORDER BY 1")
    assert [(offset, bytes(kept)) for offset, kept in found] == [(2, value), (3, value)]
    assert position(world) == 4
