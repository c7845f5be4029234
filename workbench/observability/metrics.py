"""Every metric of the workbench, declared in one place, under Prometheus' naming rules.

Source: prometheus.io, "Metric and label naming". Label values are tables and topics of flows, which are few.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import Metric

from workbench.errors import PortTaken
from workbench.observability.operations import OUTCOMES, Ended


class SetGauge(Gauge):
    """A gauge that is told of once it was set.

    All processes import this module, and one of them knows the value: the others would tell 0, and the least free
    disk of all were none.
    """

    _was_set = False

    def set(self, value: float) -> None:
        """Set it, from now on for whoever reads."""
        super().set(value)
        self._was_set = True

    def collect(self) -> Iterable[Metric]:
        """Called by the registry."""
        return super().collect() if self._was_set else ()


class WeightedHistogram(Histogram):
    """A histogram that is told of many equal observations at once."""

    def observe_many(self, amount: float, count: int) -> None:
        """As if *amount* were observed *count* times. Written for prometheus_client 0.26, which takes one at a time."""
        self._sum.inc(amount * count)
        index = next(number for number, bound in enumerate(self._upper_bounds) if amount <= bound)
        self._buckets[index].inc(count)


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
# By records: of commits, a late one with a single record would weigh as much as one of fifty thousand.
FRESHNESS_SECONDS = WeightedHistogram(
    "workbench_ingestion_freshness_seconds",
    "Age of records when they were committed, for each that of the first record of its transaction.",
    FLOW,
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
)
WAITING_RECORDS = Gauge("workbench_ingestion_waiting_records", "Records that the broker has and nobody has read.", FLOW)
COMPLETE = Gauge(
    "workbench_ingestion_complete_timestamp_seconds",
    "The latest known time at which the table had all records that its topic had.",
    FLOW,
)
#: Names of the errors after which a flow begins again, of both lanes.
RESTART_CAUSES = ("KafkaUnavailable", "SparkError", "SparkRestarted", "Stalled", "TakenOver", "WarehouseUnavailable")
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
SPARK_SECONDS = Histogram(
    "workbench_spark_operation_seconds",
    "Time that operations of Spark took for those who asked for them, by whose they are and how they ended.",
    ("kind", "outcome"),
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600),
)
CACHE_REQUESTS = Counter(
    "workbench_cache_requests_total", "What was asked of a cache: found, or made anew.", ("cache", "result")
)
SERVICE_REQUEST_SECONDS = Histogram(
    "workbench_service_request_seconds",
    "Time that the service of pipelines took to answer, by the class of the status.",
    ("status",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
AUTHORIZATIONS = Counter(
    "workbench_authorization_attempts_total",
    "Requests for which somebody had to have a right, by the service that was asked and what came of it.",
    ("service", "outcome"),
)
TOKENS_USED = Counter(
    "workbench_auth_tokens_used_total",
    "Requests to the hub that came with a token of its API, by whose it is.",
    ("kind",),
)
#: `session`: of somebody who is logged in to a server or a service, which asks with it who that is.
TOKEN_KINDS = ("user", "service", "server", "session", "other")
# What the monitor finds out itself.
SECURITY_EVENTS = Counter(
    "workbench_security_events_total",
    "Events of the audit log since the monitor started, by what happened and how it ended.",
    ("action", "outcome"),
)
RUNS_ENDED = Counter(
    "workbench_runs_ended_total", "Runs of pipelines that ended since the monitor started.", ("pipeline", "state")
)
RUN_SUCCESS = Gauge(
    "workbench_run_success_timestamp_seconds", "When a run of a pipeline has last succeeded.", ("pipeline",)
)
QUEUE_STEPS = SetGauge("workbench_queue_waiting_steps", "Steps of pipelines that may run and wait for a worker.")
QUEUE_SECONDS = SetGauge("workbench_queue_oldest_seconds", "How long the oldest of these steps waits.")
QUEUE_RUNNING = SetGauge("workbench_queue_running_steps", "Steps of pipelines that run.")
OUTBOX_MESSAGES = SetGauge("workbench_outbox_waiting_messages", "Messages of the outbox that have been tried in vain.")
DISK_BYTES = SetGauge("workbench_disk_free_bytes", "Free bytes of the disk under WORKBENCH_HOME.")
DISK_RATIO = SetGauge("workbench_disk_free_ratio", "Free share of that disk.")
MEMORY_RATIO = SetGauge("workbench_memory_available_ratio", "Share of this machine's memory that may still be taken.")
LOAD = SetGauge(
    "workbench_machine_load_ratio", "Processes that want to run, over a minute, by the processors there are."
)
CERTIFICATE_EXPIRY = Gauge(
    "workbench_certificate_expiry_timestamp_seconds", "When a certificate of ours ends.", ("certificate",)
)
AUDIT_CHECKPOINT = SetGauge(
    "workbench_audit_checkpoint_timestamp_seconds", "When the audit log was last signed by a checkpoint."
)
# By the name of this home in the folder of backups: without backups there is no series, and no alert.
BACKUP = ("warehouse",)
BACKUP_COVERED = Gauge(
    "workbench_backup_verified_timestamp_seconds",
    "To which moment the newest backup reaches that was read back; without one, when backups were begun.",
    BACKUP,
)
BACKUP_BYTES = Gauge("workbench_backup_size_bytes", "Size of that backup.", BACKUP)
BACKUP_SECONDS = Gauge("workbench_backup_duration_seconds", "Time to make that backup and to read it back.", BACKUP)
BACKUP_SUCCEEDED = Gauge("workbench_backup_succeeded", "1 when the last backup has succeeded, else 0.", BACKUP)
WAL_LAG = Gauge(
    "workbench_backup_wal_lag_seconds", "How long the oldest closed segment of WAL waits to be archived.", BACKUP
)
BACKUPS = (BACKUP_COVERED, BACKUP_BYTES, BACKUP_SECONDS, BACKUP_SUCCEEDED, WAL_LAG)
COMPONENT_RUNNING = Gauge(
    "workbench_component_running", "1 for a component of `workbench up` that runs, else 0.", ("component",)
)
COMPONENT_READY = Gauge(
    "workbench_component_ready", "1 for a component of `workbench up` that can do its work, else 0.", ("component",)
)
COMPONENT_MEMORY = Gauge(
    "workbench_component_memory_bytes", "Memory of a component and all that it has started.", ("component",)
)
COMPONENT_RESTARTS = Gauge("workbench_component_restarts", "How often it was restarted.", ("component",))
PROGRAMS = Gauge("workbench_programs_running", "Kernels, Spark servers and servers of users that run here.", ("kind",))
PROGRAMS_MEMORY = Gauge("workbench_programs_memory_bytes", "Resident memory of them.", ("kind",))
SCRAPE_SECONDS = Histogram(
    "workbench_monitor_scrape_seconds",
    "Time to read the metrics of all processes.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
EVALUATION_SECONDS = Histogram(
    "workbench_monitor_evaluation_seconds",
    "Time to evaluate all alerts.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
OBJECTIVE_EVENTS = Counter(
    "workbench_objective_events_total",
    "Looks or requests that an objective is about, since the monitor started.",
    ("objective",),
)
OBJECTIVE_GOOD = Counter("workbench_objective_good_total", "Those of them that were good.", ("objective",))
ALERTS_FIRING = Gauge("workbench_alerts_firing", "Alerts that fire.", ("severity",))


def begin_flow(topic: str, table: str) -> None:
    """Have the counters of a flow begin at zero: of one that begins at 1, nobody sees that it has grown."""
    for counter in (INGESTED_ROWS, INGESTED_BYTES, DEAD_LETTERS, FRESHNESS_SECONDS):
        counter.labels(topic, table)
    for cause in RESTART_CAUSES:
        RESTARTS.labels(topic, table, cause)


def begin_spark(kind: str) -> None:
    """Have the counters of a kind of Spark's operations begin at zero."""
    for outcome in OUTCOMES:
        SPARK_SECONDS.labels(kind, outcome)


def count_spark(kind: str, ended: Ended) -> None:
    """An operation of Spark has ended, in this process or in one that has told of it."""
    SPARK_SECONDS.labels(kind, ended.outcome).observe(ended.seconds)


def begin_cache(cache: str) -> None:
    """Have the counters of a cache begin at zero."""
    for result in ("hit", "miss"):
        CACHE_REQUESTS.labels(cache, result)


def count_cache(cache: str, *, is_hit: bool) -> None:
    """Something was asked of a cache."""
    CACHE_REQUESTS.labels(cache, "hit" if is_hit else "miss").inc()


def begin_authorizations(service: str) -> None:
    """Have the counters of a service that looks at rights begin at zero."""
    for outcome in ("allowed", "refused"):
        AUTHORIZATIONS.labels(service, outcome)


def count_authorization(service: str, *, is_allowed: bool) -> None:
    """Somebody asked for what takes a right."""
    AUTHORIZATIONS.labels(service, "allowed" if is_allowed else "refused").inc()


def begin_tokens() -> None:
    """Have the counters of tokens begin at zero."""
    for kind in TOKEN_KINDS:
        TOKENS_USED.labels(kind)


def serve_metrics(port: int) -> None:
    """Serve the metrics over HTTP on 127.0.0.1, in a thread of its own; everybody on this machine may read them.

    Raises:
        PortTaken: when another program listens there.
    """
    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        raise PortTaken(f"port {port} for metrics: {error.strerror}", remedy="Choose another --metrics-port.") from None
