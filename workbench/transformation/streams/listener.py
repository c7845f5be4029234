"""What streaming queries tell of themselves, as metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from workbench.observability import metrics

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming import StreamingQueryListener

logger = logging.getLogger(__name__)

DECODED = "workbench_decoded"  # name of the observation that counts the records that fit


class Watched:
    """The sessions of one stream, each with one listener; a context manager that takes the last one away."""

    def __init__(self, stream: str) -> None:
        self._listener = make_listener(stream)
        self._session: SparkSession | None = None

    def session(self, session: SparkSession) -> SparkSession:
        """The session, watched: a query that is started again in it is measured once."""
        if session is not self._session:
            session.streams.addListener(self._listener)
            self._session = session
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._session is not None:
            with suppress(Exception):  # the server may be gone
                self._session.streams.removeListener(self._listener)


def make_listener(stream: str) -> StreamingQueryListener:
    """A listener that measures the query named *stream*; other queries of the session are not looked at."""
    from pyspark.sql.streaming import StreamingQueryListener

    class Listener(StreamingQueryListener):  # type: ignore[misc]
        def onQueryStarted(self, event: Any) -> None:  # noqa: N802 - pyspark's names
            pass

        def onQueryProgress(self, event: Any) -> None:  # noqa: N802
            if event.progress.name == stream:
                try:
                    measure_progress(stream, json.loads(event.progress.json))
                except (KeyError, TypeError, ValueError):
                    logger.exception("the progress of %s could not be read", stream)

        def onQueryIdle(self, event: Any) -> None:  # noqa: N802
            pass

        def onQueryTerminated(self, event: Any) -> None:  # noqa: N802
            pass

    return Listener()


def measure_progress(stream: str, progress: Mapping[str, Any]) -> None:
    """Set the metrics of a stream from one report of its progress (StreamingQueryProgress.json)."""
    rows = int(progress.get("numInputRows") or 0)
    metrics.STREAM_ROWS.labels(stream).inc(rows)
    metrics.STREAM_RATE.labels(stream).set(float(progress.get("processedRowsPerSecond") or 0.0))
    took = progress.get("durationMs", {}).get("triggerExecution")
    if took is not None:
        metrics.STREAM_BATCH_SECONDS.labels(stream).observe(took / 1000)
    metrics.STREAM_LAG.labels(stream).set(sum(offsets_behind(each) for each in progress.get("sources", ())))
    operators = progress.get("stateOperators", ())
    metrics.STREAM_STATE_ROWS.labels(stream).set(sum(each.get("numRowsTotal", 0) for each in operators))
    metrics.STREAM_STATE_BYTES.labels(stream).set(sum(each.get("memoryUsedBytes", 0) for each in operators))
    metrics.STREAM_LATE_ROWS.labels(stream).inc(sum(each.get("numRowsDroppedByWatermark", 0) for each in operators))
    decoded = (progress.get("observedMetrics") or {}).get(DECODED)
    if decoded:
        metrics.STREAM_UNDECODABLE.labels(stream).inc(max(rows - int(decoded["rows"]), 0))


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
