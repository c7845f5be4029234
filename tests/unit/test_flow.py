"""The life of a worker: what it claims, and what it refuses to go on with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from workbench.errors import KafkaError
from workbench.ingestion import flow
from workbench.ingestion.cluster import watermarks
from workbench.ingestion.cluster.watermarks import TopicState
from workbench.ingestion.stalled import Stalled
from workbench.loading import Claim


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
