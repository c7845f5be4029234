"""What streaming queries tell of themselves, as metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from workbench.observability import metrics

if TYPE_CHECKING:
    from pyspark.sql.streaming.listener import StreamingQueryProgress

logger = logging.getLogger(__name__)

DECODED = "workbench_decoded"  # name of the observation that counts the records that fit


class Watched(Protocol):
    """What is asked of a streaming query for its metrics (pyspark's StreamingQuery)."""

    @property
    def lastProgress(self) -> StreamingQueryProgress | None:  # noqa: N802 - pyspark's name
        """The report of the last batch; None before there is one."""

    @property
    def recentProgress(self) -> Sequence[StreamingQueryProgress]:  # noqa: N802
        """The reports of the last batches, `spark.sql.streaming.numRecentProgressUpdates` of them (100)."""


class Meter:
    """Measures each batch of a stream once, however often its query is started again.

    It asks, rather than listens: pyspark's `StreamingQueryListenerBus.remove` holds its lock while it waits for the
    thread that hands on events, which takes the same lock for each; a stream that is stopped as a report comes would
    wait for ever.
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._run, self._batch = "", -1

    def look(self, query: Watched) -> None:
        """Measure what the query has told since the last look."""
        last = query.lastProgress
        if last is None or (str(last.runId), last.batchId) == (self._run, self._batch):
            return
        if str(last.runId) != self._run:
            self._run, self._batch = str(last.runId), -1
        for each in query.recentProgress:
            if each.batchId > self._batch:
                self._batch = each.batchId
                self._measure(each)

    def _measure(self, progress: StreamingQueryProgress) -> None:
        try:
            measure_progress(self._stream, json.loads(progress.json))
        except (KeyError, TypeError, ValueError):
            logger.exception("the progress of %s could not be read", self._stream)


def measure_progress(stream: str, progress: Mapping[str, Any]) -> None:
    """Set the metrics of a stream from one report of its progress (StreamingQueryProgress.json)."""
    sources = progress["sources"]
    rows = int(_sum_of(sources, "numInputRows"))
    metrics.STREAM_ROWS.labels(stream).inc(rows)
    metrics.STREAM_RATE.labels(stream).set(_sum_of(sources, "processedRowsPerSecond"))
    took = progress.get("durationMs", {}).get("triggerExecution")
    if took is not None:
        metrics.STREAM_BATCH_SECONDS.labels(stream).observe(took / 1000)
    metrics.STREAM_LAG.labels(stream).set(sum(offsets_behind(each) for each in sources))
    operators = progress.get("stateOperators", ())
    metrics.STREAM_STATE_ROWS.labels(stream).set(sum(each.get("numRowsTotal", 0) for each in operators))
    metrics.STREAM_STATE_BYTES.labels(stream).set(sum(each.get("memoryUsedBytes", 0) for each in operators))
    metrics.STREAM_LATE_ROWS.labels(stream).inc(sum(each.get("numRowsDroppedByWatermark", 0) for each in operators))
    decoded = _observed(progress)
    if decoded is not None:
        metrics.STREAM_UNDECODABLE.labels(stream).inc(max(rows - decoded, 0))


def _sum_of(sources: Sequence[Mapping[str, Any]], name: str) -> float:
    """A number of the whole query, of which Spark Connect gives those of the sources alone."""
    return sum(float(each.get(name) or 0.0) for each in sources)


def _observed(progress: Mapping[str, Any]) -> int | None:
    """How many records of the batch fitted; the one value of the observation, as Spark Connect writes a row."""
    found = (progress.get("observedMetrics") or {}).get(DECODED)
    return int(found["values"][0]) if found else None


def offsets_behind(source: Mapping[str, Any]) -> int:
    """How many offsets a Kafka source is behind the end of its topic, after this batch."""
    end, latest = _offsets(source.get("endOffset")), _offsets(source.get("latestOffset"))
    return sum(max(last - end.get(each, last), 0) for each, last in latest.items())


def _offsets(found: Any) -> dict[tuple[str, str], int]:
    """Offsets by topic and partition; of other sources there are none."""
    found = json.loads(found) if isinstance(found, str) else found
    if not isinstance(found, dict):
        return {}
    return {
        (topic, partition): int(offset)
        for topic, partitions in found.items()
        if isinstance(partitions, dict)
        for partition, offset in partitions.items()
    }
