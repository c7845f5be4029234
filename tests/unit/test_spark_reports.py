"""How operations of Spark that have ended reach a process whose metrics are read."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from prometheus_client import REGISTRY
from tornado import web

from hub.spark_operations import read_report
from pipelines.worker.measuring import measuring
from workbench.observability.operations import (
    LONGEST_SECONDS,
    MOST_REPORTED,
    OUTCOMES,
    VARIABLE,
    Ended,
    parse_ended,
    receiving,
    send_ended,
)
from workbench.transformation.progress import Outcome, Recorder
from workbench.transformation.progress.counting import count_operations
from workbench.transformation.progress.reporting import Report

SECONDS = 10.0
COUNT = "workbench_spark_operation_seconds_count"


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="wb-", dir="/tmp") as name:
        yield Path(name)


def counted(kind: str, outcome: str) -> float | None:
    return REGISTRY.get_sample_value(COUNT, {"kind": kind, "outcome": outcome})


def test_outcomes_are_those_of_an_operation_that_has_ended():
    assert set(OUTCOMES) == set(Outcome) - {Outcome.RUNNING}


def test_what_a_recorder_hears_arrives_once_it_has_ended_and_says_nothing_of_the_code(folder):
    address, recorder, taken = folder / "spark", Recorder(), Queue()
    recorder.listen(Report(address))
    recorder.listen(Report(address))  # of another session of this process

    with receiving(address, taken.put):
        recorder.begin("1", "spark.table('canary').count()", lambda: None)
        recorder.end("1", Outcome.FAILED, "canary")
        recorder.begin("2", "canary", lambda: None)
        recorder.end("2", Outcome.DONE)
        found = [taken.get(timeout=SECONDS) for _ in range(2)]

    assert [each.outcome for each in found] == ["failed", "done"]
    assert all(0 <= each.seconds < SECONDS for each in found)
    assert taken.empty()
    assert b"canary" not in found[0].as_bytes()
    assert not address.exists()


def test_nobody_who_listens_is_no_error_and_what_is_no_operation_is_passed_over(folder):
    address, taken = folder / "spark", Queue()
    send_ended(address, Ended("done", 1.0))

    with receiving(address, taken.put), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for junk in (b"", b"\xff", b"[]", b"{}", b"[" * 200, b'{"outcome": "' + b"x" * 1000):
            stranger.sendto(junk, str(address))
        send_ended(address, Ended("lost", 2.5))
        assert taken.get(timeout=SECONDS) == Ended("lost", 2.5)

    assert taken.empty()


def test_a_socket_that_is_full_keeps_nobody_waiting(folder):
    address = folder / "spark"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(address))
        for _ in range(5_000):
            send_ended(address, Ended("done", 1.0))


@pytest.mark.parametrize(
    "said",
    [
        '{"outcome": "running", "seconds": 1}',
        '{"outcome": ["done"], "seconds": 1}',
        '{"outcome": "done", "seconds": -1}',
        '{"outcome": "done", "seconds": NaN}',
        '{"outcome": "done", "seconds": true}',
        '{"outcome": "done", "seconds": "1"}',
        f'{{"outcome": "done", "seconds": {LONGEST_SECONDS * 2}}}',
    ],
)
def test_what_cannot_have_been_is_not_counted(said):
    assert parse_ended(said.encode()) is None


def test_a_process_whose_metrics_are_read_counts_by_itself():
    recorder = Recorder()
    count_operations("flow", recorder)
    before = counted("flow", "cancelled")
    assert before is not None

    recorder.begin("1", "", lambda: None)
    recorder.end("1", Outcome.CANCELLED)

    assert counted("flow", "cancelled") == before + 1


def test_a_worker_counts_what_its_steps_tell_it_and_its_caches_begin_at_zero(tmp_path):
    with measuring(tmp_path) as environment:
        address, before = Path(environment[VARIABLE]), counted("step", "done")
        assert before is not None
        assert address.parent.stat().st_mode & 0o077 == 0
        # It is told in the order in which it was sent.
        send_ended(address, Ended("done", 1.0))

    assert counted("step", "done") == before + 1
    assert not address.parent.exists()
    for cache in ("step", "kernel", "process"):
        assert (
            REGISTRY.get_sample_value("workbench_cache_requests_total", {"cache": cache, "result": "hit"}) is not None
        )


def test_the_hub_takes_a_report_of_a_users_server():
    found = list(read_report({"operations": {"done": [0.5, 2], "cancelled": []}}))

    assert found == [Ended("done", 0.5), Ended("done", 2.0)]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"operations": []},
        {"operations": {"done": 1}},
        {"operations": {"done": ["1"]}},
        {"operations": {"done": [float("inf")]}},
        {"operations": {"somebody": [1]}},
        {"operations": {"done": [1.0] * (MOST_REPORTED + 1)}},
    ],
)
def test_the_hub_takes_nothing_else(body):
    with pytest.raises(web.HTTPError) as refused:
        list(read_report(body))
    assert refused.value.status_code == 400
