"""The pictures of the dashboard: each is a few expressions, which the monitor evaluates and Grafana asks Prometheus for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from workbench.observability.alerts.expressions import Aggregate, Arithmetic, Expression, Moment, Quantile, Rate, Value
from workbench.observability.alerts.quantities import QUANTITIES, RATE_SECONDS
from workbench.observability.alerts.samples import Labels, Match

MOST_LINES = 20  #: that are kept of one expression: the largest


class Unit(StrEnum):
    """Of the values of a picture, by Grafana's names."""

    NUMBER = "short"
    PER_SECOND = "cps"
    SECONDS = "s"
    SHARE = "percentunit"
    BYTES = "bytes"


@dataclass(frozen=True)
class Curve:
    """Values over time: one line for each set of labels that the expression has.

    Args:
        legend: what the values are; labels come behind it.
        expression: as the monitor and Prometheus evaluate it.
    """

    legend: str
    expression: Expression

    def evaluate(self, moment: Moment) -> dict[Labels, float]:
        """The largest values now."""
        found = moment.value_of(self.expression)
        finite = [(labels, value) for labels, value in found.items() if value - value == 0]
        return dict(sorted(finite, key=lambda each: -each[1])[:MOST_LINES])


@dataclass(frozen=True)
class Picture:
    """Curves that share an axis.

    Args:
        name: small letters, digits and `-`; part of addresses.
        title: what is seen.
        unit: of the axis.
        curves: what is drawn.
        empty: why there may be nothing to see.
    """

    name: str
    title: str
    unit: Unit
    curves: tuple[Curve, ...]
    empty: str = "Nothing was measured."


def _quantity(name: str) -> Expression:
    return QUANTITIES[name].expression(RATE_SECONDS)


def _rate(counter: str, *matches: Match, by: tuple[str, ...] = ()) -> Expression:
    return Aggregate("sum", Rate(counter, RATE_SECONDS, matches), by)


def _level(metric: str, *by: str) -> Expression:
    return Aggregate("sum", Value(metric), by)


def _times(factor: float, expression: Expression) -> Expression:
    return Arithmetic(factor, "*", expression)


def _requests(*matches: Match) -> Expression:
    return _rate("jupyterhub_request_duration_seconds_bucket", Match("le", ("+Inf",)), *matches)


_NO_FLOW = "No flow runs."
_NO_SPARK = "Spark has done nothing."
_EVENTS = "workbench_security_events_total"
PICTURES = (
    Picture(
        "ingestion-rate", "Ingestion: rows a second", Unit.PER_SECOND,
        (Curve("", _quantity("ingestion_rate")), Curve("stream", _level("workbench_stream_rows_per_second", "stream"))),
        _NO_FLOW,
    ),
    Picture(
        "lag", "Lag: records that wait", Unit.NUMBER,
        (Curve("", _quantity("waiting_records")), Curve("stream", _level("workbench_stream_waiting_records", "stream"))),
        _NO_FLOW,
    ),
    Picture(
        "processing-latency", "Processing latency: age of records when they were committed, 95th percentile", Unit.SECONDS,
        (Curve("", _quantity("processing_latency")),), _NO_FLOW,
    ),
    Picture(
        "error-rate", "Errors: share of records that became dead letters", Unit.SHARE,
        (Curve("", _quantity("error_rate")),), _NO_FLOW,
    ),
    Picture(
        "queue", "Queue of pipelines: steps", Unit.NUMBER,
        (
            Curve("waiting", _level("workbench_queue_waiting_steps")),
            Curve("running", _level("workbench_queue_running_steps")),
            Curve("messages that were not taken", _level("workbench_outbox_waiting_messages")),
        ),
    ),
    Picture(
        "runs", "Pipelines: runs that ended, an hour", Unit.NUMBER,
        (Curve("", _times(3600, _rate("workbench_runs_ended_total", by=("state",)))),),
    ),
    Picture(
        "lateness", "Lateness: how long the oldest step waits", Unit.SECONDS,
        (Curve("waits", _quantity("queue_wait")),),
    ),
    Picture(
        "success-age", "Pipelines: time since the last success", Unit.SECONDS,
        (Curve("", _quantity("pipeline_age")),), "No pipeline has succeeded yet.",
    ),
    Picture(
        "logins", "Logins, an hour", Unit.NUMBER,
        (
            Curve("succeeded", _times(3600, _rate(_EVENTS, Match("action", ("login.succeeded",))))),
            Curve("failed or refused", _times(3600, _rate(_EVENTS, Match("action", ("login.failed", "login.refused"))))),
            Curve("refused in all", _times(3600, _rate(_EVENTS, Match("outcome", ("failed", "refused"))))),
        ),
    ),
    Picture(
        "access", "Access, an hour", Unit.NUMBER,
        (
            Curve("servers started", _times(3600, _rate(_EVENTS, Match("action", ("server.started",))))),
            Curve("kernels started", _times(3600, _rate(_EVENTS, Match("action", ("kernel.started",))))),
            Curve("tokens made or revoked", _times(3600, _rate(_EVENTS, Match("action", ("token.changed",))))),
        ),
    ),
    Picture(
        "rights", "Rights: requests that were allowed or refused, an hour", Unit.NUMBER,
        (Curve("", _times(3600, _rate("workbench_authorization_attempts_total", by=("service", "outcome")))),),
    ),
    Picture(
        "tokens", "Requests to the hub with a token, an hour", Unit.NUMBER,
        (Curve("", _times(3600, _rate("workbench_auth_tokens_used_total", by=("kind",)))),),
    ),
    Picture(
        "programs", "What people and jobs run", Unit.NUMBER,
        (Curve("", _level("workbench_programs_running", "kind")),), "No workbench runs here.",
    ),
    Picture(
        "programs-memory", "Memory of what people and jobs run", Unit.BYTES,
        (Curve("", _level("workbench_programs_memory_bytes", "kind")),), "No workbench runs here.",
    ),
    Picture(
        "spark-operations", "Spark: operations that ended, a minute", Unit.NUMBER,
        (Curve("", _times(60, _rate("workbench_spark_operation_seconds_count", by=("kind", "outcome")))),), _NO_SPARK,
    ),
    Picture(
        "spark-time", "Spark: time of an operation, 95th percentile", Unit.SECONDS,
        (Curve("", _quantity("spark_time")),), _NO_SPARK,
    ),
    Picture(
        "spark-errors", "Spark: share of operations that failed or were lost", Unit.SHARE,
        (Curve("", _quantity("spark_error_rate")),), _NO_SPARK,
    ),
    Picture(
        "caches", "Caches: share of questions that they could answer", Unit.SHARE,
        (Curve("", _quantity("cache_hit_rate")),), "No step has run.",
    ),
    Picture(
        "requests", "Requests a second", Unit.PER_SECOND,
        (
            Curve("hub", _requests()),
            Curve("pipelines", _rate("workbench_service_request_seconds_count")),
        ),
    ),
    Picture(
        "response-time", "Response time, 95th percentile", Unit.SECONDS,
        (
            Curve("hub", _quantity("response_time")),
            Curve("pipelines", Quantile(0.95, "workbench_service_request_seconds", RATE_SECONDS)),
        ),
    ),
    Picture("memory", "Memory of components", Unit.BYTES, (Curve("", _level("workbench_component_memory_bytes", "component")),)),
    Picture(
        "machine", "The machine: what is free", Unit.SHARE,
        (Curve("memory", _quantity("memory_available")), Curve("disk", _quantity("disk_free"))),
    ),
    Picture(
        "readiness", "Components that cannot do their work", Unit.NUMBER,
        (Curve("", _quantity("component_not_ready")),),
    ),
)  # fmt: skip


def label_text(curve: Curve, labels: Labels) -> str:
    """What a line is called."""
    return " ".join((curve.legend, *(value for _, value in labels))).strip()
