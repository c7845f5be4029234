"""Supervision of streams, their metrics, and whether a disk is encrypted."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY
from pyspark.errors import AnalysisException, PySparkException

from workbench.errors import KafkaUnavailable, SettingsError, SparkError, StepRefused, WarehouseUnavailable
from workbench.security.at_rest import encryption_at_rest
from workbench.transformation.streams.progress import Meter, measure_progress
from workbench.transformation.streams.supervision import Patience, is_fatal, supervise

QUICK = Patience(first_seconds=0.001, longest_seconds=0.002, failures=4)


class Ended:
    """A query that has ended, well or not."""

    isActive = False  # noqa: N815
    status: dict[str, object] = {}  # noqa: RUF012
    lastProgress = None  # noqa: N815
    recentProgress = ()  # noqa: N815

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def exception(self) -> Exception | None:
        return self.error

    def stop(self) -> None:
        raise AssertionError("it has ended")


def test_a_query_that_fails_is_started_again_until_it_ends_well():
    queries, causes = [Ended(PySparkException("lost")), Ended(PySparkException("lost")), Ended()], []

    supervise(lambda: queries.pop(0), stop=threading.Event(), patience=QUICK, restarted=causes.append)

    assert queries == []
    assert causes == ["PySparkException"] * 2


def test_a_query_that_fails_again_and_again_is_given_up():
    started = []

    def start() -> Ended:
        started.append(1)
        return Ended(PySparkException("[X] no luck"))

    with pytest.raises(SparkError, match=r"s has failed 4 times one after the other, and is given up: \[X\] no luck"):
        supervise(start, stop=threading.Event(), patience=QUICK, name="s")

    assert len(started) == 4


def test_a_failure_that_would_come_again_stops_at_once():
    queries = [Ended(AnalysisException("[UNRESOLVED_COLUMN] no column x")), Ended()]

    with pytest.raises(SparkError, match=r"s has stopped: \[UNRESOLVED_COLUMN\] no column x"):
        supervise(lambda: queries.pop(0), stop=threading.Event(), patience=QUICK, name="s")

    assert len(queries) == 1


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (PySparkException("[KAFKA_DATA_LOSS.START_OFFSET_RESET] gone"), True),
        (StepRefused("no"), True),
        (SettingsError(["no"]), True),
        (PySparkException("Python worker failed to connect back."), False),
        (SparkError("nothing answers"), False),
        (WarehouseUnavailable("away"), False),
        (KafkaUnavailable("away"), False),
    ],
)
def test_what_passes_is_told_from_what_does_not(error, fatal):
    assert is_fatal(error) == fatal


def test_waits_double_up_to_the_longest():
    patience = Patience(first_seconds=1, longest_seconds=60)

    assert [patience.wait_seconds(number) for number in (1, 2, 3, 6, 7, 50)] == [1, 2, 4, 32, 60, 60]


def test_progress_becomes_metrics():
    measure_progress("u", json.loads(PROGRESS))

    found = {
        name: REGISTRY.get_sample_value(f"workbench_stream_{name}", {"stream": "u"})
        for name in ("rows_total", "rows_per_second", "waiting_records", "state_rows", "state_bytes", "late_rows_total")
    }
    assert found == {
        "rows_total": 10,
        "rows_per_second": 2.5,
        "waiting_records": 7,
        "state_rows": 3,
        "state_bytes": 900,
        "late_rows_total": 2,
    }
    assert REGISTRY.get_sample_value("workbench_stream_undecodable_records_total", {"stream": "u"}) == 1
    assert REGISTRY.get_sample_value("workbench_stream_batch_seconds_sum", {"stream": "u"}) == 1.5


# As Spark 4.2 gives it, shortened.
PROGRESS = """
{"name": "u", "batchId": 3,
 "durationMs": {"addBatch": 1200, "triggerExecution": 1500},
 "stateOperators": [{"numRowsTotal": 3, "memoryUsedBytes": 900, "numRowsDroppedByWatermark": 2}],
 "sources": [{"numInputRows": 10, "processedRowsPerSecond": 2.5, "endOffset": {"t": {"0": 5, "1": 8}}, "latestOffset": {"t": {"0": 12, "1": 8}}}],
 "observedMetrics": {"workbench_decoded": {"values": [9], "schema": {"type": "struct", "fields": [{"name": "rows"}]}}}}
"""


class Told:
    """A query that has told of these batches, of ten rows each."""

    def __init__(self, run: str, batches: range) -> None:
        self.recentProgress = [report(run, number) for number in batches]
        self.lastProgress = self.recentProgress[-1] if self.recentProgress else None


def report(run: str, batch: int) -> SimpleNamespace:
    text = json.dumps({"batchId": batch, "sources": [{"numInputRows": 10}]})
    return SimpleNamespace(runId=run, batchId=batch, json=text)


def test_each_batch_is_measured_once_whenever_it_is_looked_at():
    meter = Meter("looked at")
    looks = [
        ("a", range(0)),
        ("a", range(2)),
        ("a", range(2)),
        ("a", range(1, 5)),
        ("b", range(4, 6)),
        ("b", range(4, 7)),
    ]

    rows = []
    for run, batches in looks:
        meter.look(Told(run, batches))
        rows.append(REGISTRY.get_sample_value("workbench_stream_rows_total", {"stream": "looked at"}))

    assert rows == [None, 20, 20, 50, 70, 80]  # a batch that another run repeats is read again


def test_a_report_that_cannot_be_read_is_logged_and_the_next_is_measured(caplog):
    query = Told("a", range(2))
    query.recentProgress[0] = SimpleNamespace(runId="a", batchId=0, json="{}}")

    Meter("unreadable").look(query)

    assert REGISTRY.get_sample_value("workbench_stream_rows_total", {"stream": "unreadable"}) == 10
    assert "the progress of unreadable could not be read" in caplog.text


def test_a_query_is_looked_at_after_its_end_too():
    looked, query = [], Ended(PySparkException("lost"))

    supervise(iter([query, Ended()]).__next__, stop=threading.Event(), patience=QUICK, look=looked.append)

    assert len(looked) == 2
    assert looked[0] is query


def test_a_look_that_fails_after_the_end_hides_no_failure():
    def look(_: object) -> None:
        raise PySparkException("nobody answers")

    with pytest.raises(SparkError, match="no column x"):
        supervise(lambda: Ended(AnalysisException("no column x")), stop=threading.Event(), patience=QUICK, look=look)


@pytest.mark.parametrize(
    ("kind", "uuid", "encrypted"),
    [("ext4", "CRYPT-LUKS2-0123-root", "yes"), ("ext4", "LVM-abc", "no"), ("ext4", "", "no"), ("ecryptfs", "", "yes")],
)
def test_dm_crypt_below_a_file_system_is_found(tmp_path: Path, kind, uuid, encrypted):
    disk, mapped = tmp_path / "disk", tmp_path / "mapped"
    disk.mkdir()
    (mapped / "dm").mkdir(parents=True)
    (mapped / "slaves").mkdir()
    (mapped / "slaves" / "disk").symlink_to(disk)
    (mapped / "dm" / "uuid").write_text(uuid)
    blocks = tmp_path / "blocks"
    blocks.mkdir()
    (blocks / "253:0").symlink_to(mapped)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 0 253:0 / / rw - {kind} /dev/mapper/root rw\n")

    assert encryption_at_rest(tmp_path, mounts=mounts, blocks=blocks).encrypted == encrypted


@pytest.mark.parametrize("kind", ["overlay", "nfs4", "tmpfs"])
def test_where_the_disk_cannot_be_seen_nothing_is_claimed(tmp_path: Path, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 0 0:49 / / rw - {kind} none rw\n")

    assert encryption_at_rest(tmp_path, mounts=mounts, blocks=tmp_path).encrypted == "unknown"
