"""What a task of the Spark lane writes, and what it does not, in every warehouse that executors can share."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
import pytest

from tests.contracts.conftest import World
from tests.services.kafka_frames import kafka_batch
from workbench.ingestion.batch import Limits
from workbench.ingestion.decoding.contract import Contract
from workbench.ingestion.decoding.json import JsonDecoder
from workbench.ingestion.loads import LoadBuilder
from workbench.loading import Claim
from workbench.spark_lane.tasks import Work

COLUMNS = pa.schema([pa.field("n", pa.int64())])
CLUSTER, TOPIC = "cluster-1", "topic-1"
ROW = b'{"n":{n}}'


def task(world: World, *, records: int = 4) -> Work:
    """A task of a driver that has just become the owner of partition 0."""
    loads = LoadBuilder(world.target(), (), pa.schema([]))
    warehouse = world.open()
    table = warehouse.prepare(loads.columns(COLUMNS))
    claim: Claim = warehouse.claim(CLUSTER, TOPIC, {0: 0})[0]
    return Work(
        open_warehouse=partial(world.make, world.target()),
        make_decoder=partial(decoder, COLUMNS),
        loads=loads,
        table=table,
        epochs={0: claim.epoch},
        limits=Limits(records=records),
        outage_seconds=1.0,
    )


def decoder(columns: pa.Schema, _: pa.Schema) -> JsonDecoder:
    return JsonDecoder(columns, Contract.IGNORE)


def run(work: Work, *batches: pa.RecordBatch) -> list[dict[str, object]]:
    return [row for report in work(iter(batches)) for row in report.to_pylist()]


def numbers(world: World) -> list[int]:
    return [n for (n,) in world.query("SELECT n FROM {s}.rows ORDER BY n")]


def position(world: World) -> int:
    return world.count(f"SELECT next_offset FROM workbench.offsets WHERE topic = '{world.topic}'")


def test_a_task_that_spark_runs_twice_writes_once(world):
    work = task(world)
    batches = [kafka_batch(0, range(at, at + 4), value=ROW) for at in range(0, 12, 4)]

    first, second = run(work, *batches), run(work, *batches)

    assert [each["records"] for each in first] == [4, 4, 4]
    assert second == []
    assert numbers(world) == list(range(12))
    assert position(world) == 12


def test_a_task_that_died_in_its_midst_is_finished_by_its_second_run(world):
    work = task(world)
    batches = [kafka_batch(0, range(at, at + 4), value=ROW) for at in range(0, 12, 4)]
    died = work(iter(batches))
    next(died)
    died.close()

    again = run(work, *batches)

    assert sum(int(str(each["records"])) for each in again) == 8
    assert numbers(world) == list(range(12))


def test_a_task_of_a_driver_that_was_taken_over_writes_nothing(world):
    old = task(world)
    new = task(world)

    (report,) = run(old, kafka_batch(0, range(4), value=ROW))
    assert report["error"] == "TakenOver"
    assert numbers(world) == []

    run(new, kafka_batch(0, range(4), value=ROW))
    assert numbers(world) == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [b"{broken", b'{"n":"x"}', b"\xff"])
def test_what_does_not_fit_is_a_dead_letter_of_the_same_transaction(world, value):
    work = task(world)

    (report,) = run(work, kafka_batch(0, [0, 1], value=ROW), kafka_batch(0, [2, 5], value=value))

    assert (report["rows"], report["dead"], report["error"]) == (2, 2, None)
    assert numbers(world) == [0, 1]
    found = world.query("SELECT record_offset, record_value FROM {s}.dead_letters ORDER BY 1")
    assert [(offset, bytes(kept)) for offset, kept in found] == [(2, value), (5, value)]
    assert position(world) == 6
