"""What conditions can be about: each quantity is defined once, as an expression that also writes itself as PromQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from workbench.observability.alerts.expressions import (
    Aggregate,
    Arithmetic,
    Expression,
    Floor,
    Increase,
    Quantile,
    Rate,
    SecondsUntil,
    Value,
)
from workbench.observability.alerts.samples import Match

RATE_SECONDS = 300  #: of rates and quantiles
TABLE = ("table",)
LARGER = ((86400, "d"), (3600, "h"), (60, "m"))  #: units of times, with their seconds
BAD_ENDS = ("failed", "kernel_died", "timed_out", "lost", "infrastructure_error")


class Unit(StrEnum):
    """What a quantity counts; a threshold has the same."""

    SHARE = "share"  #: of one; written as `5%` or `0.05`
    SECONDS = "seconds"  #: written as `30s`, `5m`, `12h`, `14d`
    BYTES = "bytes"  #: written as `500MB`, `2GiB`
    NUMBER = "number"


@dataclass(frozen=True)
class Quantity:
    """Something with a value at any time.

    Args:
        name: as conditions have it.
        unit: of its values.
        by: labels that its values have: an alert for each.
        meaning: for the documentation.
        expression: made with the seconds of the alert's `duration`.
        is_count: whether it counts what has happened within the alert's duration. Such an alert fires
            as soon as there is too much; any other one once its condition has held for as long.
    """

    name: str
    unit: Unit
    by: tuple[str, ...]
    meaning: str
    expression: Callable[[int], Expression]
    is_count: bool = False

    def text_of(self, value: float) -> str:
        """A value with its unit, for people."""
        if self.unit is Unit.SHARE:
            return f"{value:.2%}"
        if self.unit is Unit.SECONDS:
            size, unit = next((each for each in LARGER if abs(value) >= 2 * each[0]), (1, "s"))
            return f"{value / size:,.4g} {unit}"
        return f"{value:,.6g}"


def _level(name: str, unit: Unit, by: tuple[str, ...], meaning: str, expression: Expression) -> Quantity:
    return Quantity(name, unit, by, meaning, lambda _: expression)


def _count(
    name: str, counter: str, meaning: str, *, by: tuple[str, ...] = (), matches: tuple[Match, ...] = ()
) -> Quantity:
    # Prometheus extrapolates to the whole range: of 10 within it, it makes 10.5. What is counted is whole.
    def expression(seconds: int) -> Expression:
        return Floor(Aggregate("sum", Increase(counter, seconds, matches), by))

    return Quantity(name, Unit.NUMBER, by, meaning, expression, is_count=True)


def _since(instant: Expression) -> Expression:
    return Arithmetic(-1, "*", SecondsUntil(instant))


_DEAD = Aggregate("sum", Rate("workbench_ingestion_dead_letters_total", RATE_SECONDS), TABLE)
_ROWS = Aggregate("sum", Rate("workbench_ingestion_rows_total", RATE_SECONDS), TABLE)
_KIND = ("kind",)
_SPARK = "workbench_spark_operation_seconds"
_CACHE = "workbench_cache_requests_total"
_ENDED = Aggregate("sum", Rate(f"{_SPARK}_count", RATE_SECONDS), _KIND)
_BAD = Aggregate("sum", Rate(f"{_SPARK}_count", RATE_SECONDS, (Match("outcome", ("failed", "lost")),)), _KIND)
_HITS = Aggregate("sum", Rate(_CACHE, RATE_SECONDS, (Match("result", ("hit",)),)), ("cache",))
_ALL = (
    _level(
        "error_rate", Unit.SHARE, TABLE, "share of the last five minutes' records that became dead letters",
        Arithmetic(_DEAD, "/", Arithmetic(_DEAD, "+", _ROWS)),
    ),
    _level(
        "processing_latency", Unit.SECONDS, TABLE,
        "95th percentile, over the last five minutes, of the age of records when they were committed",
        Quantile(0.95, "workbench_ingestion_freshness_seconds", RATE_SECONDS, TABLE),
    ),
    _level("ingestion_rate", Unit.NUMBER, TABLE, "rows a second over the last five minutes", _ROWS),
    _level(
        "waiting_records", Unit.NUMBER, TABLE, "records that the broker has and nobody has read: the lag",
        Aggregate("sum", Value("workbench_ingestion_waiting_records"), TABLE),
    ),
    _level(
        "table_age", Unit.SECONDS, TABLE,
        "freshness: time since a table has had all records that its topic had, while its flow runs",
        _since(Aggregate("min", Value("workbench_ingestion_complete_timestamp_seconds"), TABLE)),
    ),
    _count("dead_letters", "workbench_ingestion_dead_letters_total", "records that became dead letters", by=TABLE),
    _count("flow_restarts", "workbench_ingestion_restarts_total", "times that a flow began again", by=TABLE),
    _count(
        "auth_failures", "workbench_security_events_total", "logins that failed or were refused",
        matches=(Match("action", ("login.failed", "login.refused")),),
    ),
    _count(
        "security_refusals", "workbench_security_events_total",
        "whatever was refused or failed by the audit log, such as a signature of a webhook; logins too",
        matches=(Match("outcome", ("failed", "refused")),),
    ),
    _count(
        "failed_runs", "workbench_runs_ended_total", "runs of a pipeline that did not succeed", by=("pipeline",),
        matches=(Match("state", BAD_ENDS),),
    ),
    _level(
        "pipeline_age", Unit.SECONDS, ("pipeline",), "time since a pipeline has last succeeded",
        _since(Aggregate("max", Value("workbench_run_success_timestamp_seconds"), ("pipeline",))),
    ),
    _level(
        "queue_depth", Unit.NUMBER, (), "steps of pipelines that may run and wait",
        Aggregate("sum", Value("workbench_queue_waiting_steps")),
    ),
    _level(
        "queue_wait", Unit.SECONDS, (), "how long the oldest of them waits",
        Aggregate("max", Value("workbench_queue_oldest_seconds")),
    ),
    _level(
        "undelivered_messages", Unit.NUMBER, (), "messages of the outbox that a channel has not taken when first tried",
        Aggregate("sum", Value("workbench_outbox_waiting_messages")),
    ),
    _level(
        "spark_operations", Unit.NUMBER, _KIND, "operations of Spark that ended, a minute, over the last five minutes",
        Arithmetic(60, "*", _ENDED),
    ),
    _level(
        "spark_time", Unit.SECONDS, _KIND,
        "95th percentile, over the last five minutes, of the time that an operation of Spark took",
        Quantile(0.95, _SPARK, RATE_SECONDS, _KIND),
    ),
    _level(
        "spark_error_rate", Unit.SHARE, _KIND,
        "share of the last five minutes' operations of Spark that failed or were lost with their server",
        Arithmetic(_BAD, "/", _ENDED),
    ),
    _level(
        "cache_hit_rate", Unit.SHARE, ("cache",), "share of the last five minutes' questions to a cache that it could answer",
        Arithmetic(_HITS, "/", Aggregate("sum", Rate(_CACHE, RATE_SECONDS), ("cache",))),
    ),
    _level(
        "response_time", Unit.SECONDS, (), "95th percentile of the hub's answers over the last five minutes",
        Quantile(0.95, "jupyterhub_request_duration_seconds", RATE_SECONDS),
    ),
    _level(
        "disk_free", Unit.SHARE, (), "free share of the disk under WORKBENCH_HOME",
        Aggregate("min", Value("workbench_disk_free_ratio")),
    ),
    _level(
        "memory_available", Unit.SHARE, (), "share of this machine's memory that may still be taken",
        Aggregate("min", Value("workbench_memory_available_ratio")),
    ),
    _level(
        "certificate_lifetime", Unit.SECONDS, ("certificate",), "how long a certificate of ours is still valid",
        SecondsUntil(Aggregate("min", Value("workbench_certificate_expiry_timestamp_seconds"), ("certificate",))),
    ),
    _level(
        "audit_checkpoint_age", Unit.SECONDS, (), "time since the audit log was last signed",
        _since(Aggregate("max", Value("workbench_audit_checkpoint_timestamp_seconds"))),
    ),
    _level(
        "backup_age", Unit.SECONDS, (),
        "age of the newest backup that was made and read back; before the first, time since backups were begun",
        _since(Aggregate("min", Value("workbench_backup_verified_timestamp_seconds"))),
    ),
    _level(
        "wal_archive_lag", Unit.SECONDS, (), "how long changes of the warehouse wait to be in the folder of backups",
        Aggregate("max", Value("workbench_backup_wal_lag_seconds")),
    ),
    _level(
        "component_down", Unit.NUMBER, ("component",), "1 for a component of `workbench up` that does not run, else 0",
        Arithmetic(1, "-", Aggregate("min", Value("workbench_component_running"), ("component",))),
    ),
    _level(
        "component_not_ready", Unit.NUMBER, ("component",),
        "1 for a component of `workbench up` that cannot do its work, such as one whose database is away, else 0",
        Arithmetic(1, "-", Aggregate("min", Value("workbench_component_ready"), ("component",))),
    ),
    _level(
        "target_down", Unit.NUMBER, ("job",), "1 for a process whose metrics cannot be read, else 0",
        Arithmetic(1, "-", Aggregate("min", Value("up"), ("job",))),
    ),
)  # fmt: skip
QUANTITIES = {each.name: each for each in _ALL}
OURS = "workbench_"  #: begins the names of our metrics
_OTHERS = frozenset().union(*(each.expression(1).metrics() for each in _ALL))


def is_wanted(metric: str) -> bool:
    """Whether a metric is kept: ours, and those that a quantity is about."""
    # When a counter was made is told beside it, and nobody asks.
    return (metric.startswith(OURS) and not metric.endswith("_created")) or metric in _OTHERS
