"""The life of a worker: what it claims, and what it refuses to go on with."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.errors import KafkaError
from workbench.ingestion import flow
from workbench.ingestion.cluster import watermarks
from workbench.ingestion.cluster.watermarks import TopicState
from workbench.ingestion.freshness import Freshness
from workbench.ingestion.stalled import Stalled
from workbench.loading import Claim, Progress, Span
from workbench.observability import metrics


def state(topic_id: str, end: int) -> TopicState:
    return TopicState(cluster_id="c", topic_id=topic_id, first_offsets={0: 0}, next_offsets={0: end})


def claimed(monkeypatch: pytest.MonkeyPatch, now: TopicState) -> Any:
    """What a session that began with topic t1, of 5 records, does with a claim at offset 8; the topic is *now*."""
    claims = [Claim(partition=0, next_offset=8, epoch=2)]
    run: Any = SimpleNamespace(
        connection=None, topic="t", warehouse=SimpleNamespace(claim=lambda *_: claims), loads=SimpleNamespace()
    )
    monkeypatch.setattr(flow, "read_topic_state", lambda *_: now)
    monkeypatch.setattr(watermarks, "_log_ends", lambda *_: now.next_offsets)
    session = flow._Session(run, 1.0)
    session._state, session._first = state("t1", 5), {0: 0}
    return session._claim([0])


def test_a_topic_that_was_made_anew_before_a_claim_is_not_called_cut_off(monkeypatch):
    with pytest.raises(Stalled, match="t was made anew while it was read"):
        claimed(monkeypatch, state("t2", 1))
    with pytest.raises(KafkaError, match="partition 0 of t ends at offset 7, but has been ingested up to 8"):
        claimed(monkeypatch, state("t1", 7))
    assert claimed(monkeypatch, state("t1", 8))[0].next_offset == 8


def test_a_table_is_as_fresh_as_the_last_look_of_which_it_has_everything():
    known = Freshness()
    known.told([Claim(partition=0, next_offset=5, epoch=1), Claim(partition=1, next_offset=0, epoch=1)])

    assert known.look(100.0, {0: 5, 1: 0}) == 100.0, "nothing has come"
    assert known.look(130.0, {0: 9, 1: 3}) is None
    known.committed([Span(0, 5, 9, 1)])
    assert known.look(160.0, {0: 20, 1: 3}) is None, "of partition 1 nothing is there"
    known.committed([Span(1, 0, 3, 1), Span(0, 9, 12, 1)])
    assert known.look(190.0, {0: 30, 1: 3}) == 130.0, "all that there was then"
    known.committed([Span(0, 12, 29, 1)])
    assert known.look(220.0, {0: 40, 1: 3}) is None
    assert known.look(250.0, {1: 3}) == 250.0, "partition 0 is another worker's"


def test_of_a_partition_that_is_ours_only_since_nobody_knows_what_it_had_before():
    known = Freshness()
    known.told([Claim(partition=0, next_offset=5, epoch=1)])
    assert known.look(100.0, {0: 9}) is None
    known.committed([Span(0, 5, 9, 1)])
    known.told([Claim(partition=1, next_offset=0, epoch=1)])

    assert known.look(130.0, {0: 9, 1: 1000}) is None
    known.committed([Span(1, 0, 1000, 1)])
    assert known.look(160.0, {0: 9, 1: 1100}) == 130.0


def test_a_worker_without_partitions_asks_the_warehouse_how_fresh_the_table_is(monkeypatch):
    written = [Progress(0, "c", "t1", 0, 5, 1, 0.0)]
    monkeypatch.setattr(flow, "read_topic_state", lambda *_: state("t1", 8))
    monkeypatch.setattr(watermarks, "_log_ends", lambda *_: {0: 8})
    run: Any = SimpleNamespace(
        connection=None, topic="t", warehouse=SimpleNamespace(progress=lambda: written),
        loads=SimpleNamespace(target=SimpleNamespace(table="raw.standby")),
    )  # fmt: skip
    session, source = flow._Session(run, 1.0), SimpleNamespace(positions={})
    session._state = state("t1", 5)
    gauge = metrics.COMPLETE.labels("t", "raw.standby")

    session._look(source)
    assert gauge._value.get() == 0, "nobody reads the three records"
    written[:] = [Progress(0, "c", "t1", 0, 8, 2, 0.0)]
    session._look(source)

    assert gauge._value.get() == pytest.approx(time.time(), abs=5)


def test_a_topic_that_never_rests_makes_no_table_old():
    known, end = Freshness(), 0
    known.told([Claim(partition=0, next_offset=0, epoch=1)])
    known.look(0.0, {0: 10})

    for look in range(1, 20):
        known.committed([Span(0, end, end + 15, 1)])
        end += 15
        assert known.look(30.0 * look, {0: end + 1}) == 30.0 * (look - 1)


def test_a_look_tells_how_fresh_the_table_is(monkeypatch):
    monkeypatch.setattr(flow, "read_topic_state", lambda *_: state("t1", 8))
    monkeypatch.setattr(watermarks, "_log_ends", lambda *_: {0: 8})
    claims, loads = [Claim(0, 5, 1)], SimpleNamespace(target=SimpleNamespace(table="raw.fresh"))
    warehouse = SimpleNamespace(claim=lambda *_: claims)
    run: Any = SimpleNamespace(connection=None, topic="t", warehouse=warehouse, loads=loads, committed=lambda _: None)
    session, source = flow._Session(run, 1.0), SimpleNamespace(positions={0: 8}, mirror=lambda _: None)
    session._state, session._first, session._source = state("t1", 5), {0: 0}, source
    gauge = metrics.COMPLETE.labels("t", "raw.fresh")
    session._claim([0])

    session._look(source)
    assert gauge._value.get() == 0, "what was read is not committed"
    empty = SimpleNamespace(num_rows=0)
    load = SimpleNamespace(rows=empty, dead_letters=empty, filtered=None, spans=[Span(0, 5, 8, 1)])
    session._committed(load, SimpleNamespace(messages=[], size_bytes=0), 0.1)
    session._look(source)

    assert gauge._value.get() == pytest.approx(time.time(), abs=5)
