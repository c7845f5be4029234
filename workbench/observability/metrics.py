"""Every metric of the workbench, declared in one place, under Prometheus' naming rules.

Source: prometheus.io, "Metric and label naming". Label values are tables and topics of flows, which are few.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from workbench.errors import PortTaken

FLOW = ("topic", "table")

INGESTED_ROWS = Counter("workbench_ingestion_rows_total", "Rows committed to the warehouse.", FLOW)
INGESTED_BYTES = Counter("workbench_ingestion_bytes_total", "Bytes of the values of committed records.", FLOW)
DEAD_LETTERS = Counter("workbench_ingestion_dead_letters_total", "Records committed as dead letters.", FLOW)
BATCH_RECORDS = Histogram(
    "workbench_ingestion_batch_records",
    "Records of one transaction.",
    FLOW,
    buckets=(1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000),
)
COMMIT_SECONDS = Histogram(
    "workbench_ingestion_commit_seconds",
    "Time that one transaction took, with its retries.",
    FLOW,
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
FRESHNESS_SECONDS = Histogram(
    "workbench_ingestion_freshness_seconds",
    "Age of the oldest record of a transaction when it was committed.",
    FLOW,
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
)
WAITING_RECORDS = Gauge("workbench_ingestion_waiting_records", "Records that the broker has and nobody has read.", FLOW)
RESTARTS = Counter(
    "workbench_ingestion_restarts_total",
    "Times that a worker began again, by what had happened.",
    (*FLOW, "cause"),
)
STREAM = ("stream",)
STREAM_ROWS = Counter("workbench_stream_rows_total", "Records that a streaming query has read.", STREAM)
STREAM_UNDECODABLE = Counter(
    "workbench_stream_undecodable_records_total", "Records that a streaming query read and that did not fit.", STREAM
)
STREAM_LATE_ROWS = Counter(
    "workbench_stream_late_rows_total", "Rows that came later than the watermark allows.", STREAM
)
STREAM_RATE = Gauge("workbench_stream_rows_per_second", "Records a second that the last batch has processed.", STREAM)
STREAM_BATCH_SECONDS = Histogram(
    "workbench_stream_batch_seconds",
    "Time that one micro-batch took, from looking for records to its commit.",
    STREAM,
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
STREAM_LAG = Gauge("workbench_stream_waiting_records", "Offsets that the topic is ahead of the last batch.", STREAM)
STREAM_STATE_ROWS = Gauge("workbench_stream_state_rows", "Rows in the state of a streaming query.", STREAM)
STREAM_STATE_BYTES = Gauge("workbench_stream_state_bytes", "Memory that this state takes.", STREAM)
STREAM_RESTARTS = Counter(
    "workbench_stream_restarts_total",
    "Times that a streaming query was started again, by what had happened.",
    (*STREAM, "cause"),
)


def serve_metrics(port: int) -> None:
    """Serve the metrics over HTTP on 127.0.0.1, in a thread of its own; everybody on this machine may read them.

    Raises:
        PortTaken: when another program listens there.
    """
    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        raise PortTaken(f"port {port} for metrics: {error.strerror}", remedy="Choose another --metrics-port.") from None
