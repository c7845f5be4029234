"""Conditions and rules of alerts: what is read, what is refused and how that is told, and what Prometheus is given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pipelines.states import State
from tests.services.declared_metrics import declared_metrics
from workbench.errors import AlertsRefused
from workbench.observability import metrics
from workbench.observability.alerts.conditions import UNITS, ConditionProblem, parse_condition
from workbench.observability.alerts.expressions import COMPARISONS, Moment
from workbench.observability.alerts.functions import bucket_quantile
from workbench.observability.alerts.prometheus import as_rule_file
from workbench.observability.alerts.quantities import BAD_ENDS, QUANTITIES, Unit
from workbench.observability.alerts.rules import load_rules, rule_problems
from workbench.observability.alerts.samples import Labels, Samples, labels_of
from workbench.observability.alerts.states import Alert, Stage, evaluate
from workbench.resources import resource

FILE = resource("pipelines") / "alerts.yaml"
CHANNELS = "channels: {slack: {url: env:SLACK}}\n"


def file_of(folder: Path, *alerts: str) -> Path:
    path = folder / "alerts.yaml"
    path.write_text(CHANNELS + "alerts:\n" + "".join(f"  - {{{each}}}\n" for each in alerts))
    return path


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[str, str, str, float]:
    quantity = draw(st.sampled_from([*QUANTITIES.values()]))
    unit, factor = draw(st.sampled_from([*UNITS[quantity.unit].items()]))
    number = draw(st.one_of(st.integers(0, 10**6), st.decimals(0, 1000, places=3)))
    return quantity.name, draw(st.sampled_from([*COMPARISONS])), f"{number}{unit}", float(number) * factor


@given(comparisons(), st.sampled_from(["", " ", "   "]))
def test_a_comparison_is_read_whatever_its_blanks(comparison, blank):
    name, sign, threshold, value = comparison

    (found,) = parse_condition(f"{blank}{name}{blank}{sign}{blank}{threshold}{blank}").parts

    assert (found.quantity.name, found.sign) == (name, sign)
    assert found.threshold == pytest.approx(value, rel=1e-12)
    assert found.promql(60).endswith(f" {sign} {found.promql(60).rpartition(' ')[2]}")


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused_with_a_reason(text):
    told = ""
    try:
        parts = parse_condition(text).parts
    except ConditionProblem as problem:
        parts, told = (), str(problem)
    assert parts or len(told) > 10


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no comparison"),
        ("error_rate", "is no comparison"),
        ("error_rate > 5% or disk_free < 1%", "is no comparison"),
        ("error_rat > 5%", "did you mean error_rate?"),
        ("nothing_like_it > 5", "known are error_rate, "),
        ("error_rate > 5s", "'s' is no unit of error_rate"),
        ("processing_latency > 30", "'' is no unit of processing_latency"),
        ("processing_latency > 30m1h", "'30m1h' is no duration"),
        ("error_rate > 1h30m", "'1h30m' is no unit of error_rate"),
        ("auth_failures > 10%", "'%' is no unit of auth_failures"),
        ("error_rate > 5% and disk_free < 10%", "joins quantities with different labels: error_rate (table)"),
        (" and ".join(["error_rate > 5%"] * 6), "has 6 comparisons"),
        ("error_rate > 1e9", "is no comparison"),
        ("sum(error_rate) > 5%", "is no comparison"),
        ('error_rate{table="a"} > 5%', "is no comparison"),
    ],
)
def test_what_is_no_condition_is_told(text, reason):
    with pytest.raises(ConditionProblem, match=re.escape(reason)):
        parse_condition(text)


@pytest.mark.parametrize(
    ("alert", "field", "reason"),
    [
        ("name: a, condition: error_rate > 5%, severity: critical", "alerts[0]", "has no channels"),
        ("name: A, condition: error_rate > 5%, severity: critical, channels: []", "alerts[0].name", "is no name"),
        ("name: a, condition: x, severity: critical, channels: []", "alerts[0].condition", "is no comparison"),
        ("name: a, condition: error_rate > 5%, severity: bad, channels: []", "alerts[0].severity", "use critical, "),
        ("name: a, condition: error_rate > 5%, severity: info, channels: [pager]", "alerts[0].channels", "'pager' is no"),
        (
            "name: a, condition: error_rate > 5%, duration: 5, severity: info, channels: []",
            "alerts[0].duration", "is no time",
        ),
        (
            "name: a, condition: error_rate > 5%, duration: 500ms, severity: info, channels: []",
            "alerts[0].duration", "is no time of whole seconds",
        ),
        (
            "name: a, condition: error_rate > 5%, keep_firing: 24h1s, severity: info, channels: []",
            "alerts[0].keep_firing", "up to a day",
        ),
        (
            "name: a, condition: auth_failures > 10, severity: info, channels: []",
            "alerts[0].duration", "counted within the duration",
        ),
        (
            "name: a, condition: auth_failures > 10, duration: 2h, severity: info, channels: []",
            "alerts[0].duration", "from 1m to 1h",
        ),
        (
            "name: a, condition: auth_failures > 10, duration: 59s, severity: info, channels: []",
            "alerts[0].duration", "from 1m to 1h",
        ),
        (
            "name: a, condition: error_rate > 5%, durations: 5m, severity: info, channels: []",
            "alerts[0].durations", "did you mean duration?",
        ),
        (
            "name: a, condition: error_rate > 5%, severity: info, channels: [], summary: 'see {{ $labels }}'",
            "alerts[0].summary", "template",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_alert_is_told_with_its_line(tmp_path, alert, field, reason):
    (problem,) = rule_problems(file_of(tmp_path, alert))

    assert (problem.line, problem.field) == (3, field)
    assert reason in problem.message
    with pytest.raises(AlertsRefused, match=re.escape(reason)):
        load_rules(tmp_path / "alerts.yaml")


def test_durations_of_several_units_are_read_and_prometheus_is_given_their_seconds(tmp_path):
    text = "name: a, condition: pipeline_age > 1h30m, duration: 1h30m, keep_firing: 2m30s, severity: info, channels: []"

    (rule,) = yaml.safe_load(as_rule_file(load_rules(file_of(tmp_path, text))))["groups"][0]["rules"]

    assert rule["expr"].endswith(" > 5400")
    assert (rule["for"], rule["keep_firing_for"]) == ("5400s", "150s")


def test_two_alerts_of_one_name_are_refused_and_a_file_without_alerts_has_none(tmp_path):
    alert = "name: a, condition: error_rate > 5%, severity: info, channels: [slack]"
    assert "is there twice" in str(rule_problems(file_of(tmp_path, alert, alert))[0])
    for odd in ("[a]", "{a: b}", "null", "1.5"):
        assert rule_problems(file_of(tmp_path, alert.replace("name: a", f"name: {odd}")))
    assert len(load_rules(file_of(tmp_path, alert))) == 1
    (tmp_path / "alerts.yaml").write_text(CHANNELS)
    assert load_rules(tmp_path / "alerts.yaml") == ()
    assert load_rules(tmp_path / "none.yaml") == ()


def test_the_alerts_of_the_plan_are_declared_as_it_has_them():
    rules = {each.name: each for each in load_rules(FILE)}

    def shown(name: str) -> tuple[object, ...]:
        rule = rules[name]
        return rule.condition.text, rule.seconds, rule.for_seconds, rule.severity, rule.channels

    assert shown("high_error_rate") == ("error_rate > 5%", 300, 300, "critical", ("slack", "email"))
    assert shown("pipeline_latency") == ("processing_latency > 30s", 600, 600, "warning", ("slack",))
    assert shown("security_events") == ("auth_failures > 10", 300, 0, "critical", ("slack", "email", "pager"))


@pytest.mark.parametrize(
    ("running", "ready", "told"),
    [(1, 1, []), (1, 0, ["component_not_ready"]), (0, 0, ["component_not_running"]), (None, None, [])],
)
def test_what_is_wrong_with_a_component_is_one_alert(running, ready, told):
    samples, spark = Samples(), labels_of({"component": "spark"})
    for metric, value in (("running", running), ("ready", ready)):
        if value is not None:
            samples.add(f"workbench_component_{metric}", spark, 0, value)

    rules = [each for each in load_rules(FILE) if each.name.startswith("component_")]

    assert [each.name for each in rules if each.condition.holds(Moment(samples, 0), each.seconds)] == told


def test_a_rule_file_has_what_prometheus_needs():
    group = yaml.safe_load(as_rule_file(load_rules(FILE)))["groups"][0]
    by_name = {each["alert"]: each for each in group["rules"]}

    rule = by_name["security_events"]
    assert rule["expr"] == (
        '(floor(sum (increase(workbench_security_events_total{action=~"login\\\\.failed|login\\\\.refused"}[300s])))) > 10'
    )
    assert "for" not in rule
    assert rule["labels"] == {"severity": "critical", "channels": ",slack,email,pager,"}
    assert by_name["high_error_rate"]["for"] == "300s"


def test_each_quantity_is_about_metrics_that_there_are():
    known = {name for each in declared_metrics() for name in (each, f"{each}_bucket", f"{each}_count")}
    for quantity in QUANTITIES.values():
        for metric in quantity.expression(300).metrics():
            assert metric in known or metric in {"up", "jupyterhub_request_duration_seconds_bucket"}, quantity.name
        assert quantity.expression(300).evaluate(Moment(Samples(), 0)) == {}


def test_runs_that_have_failed_are_all_that_ended_and_are_neither_good_nor_cancelled():
    others = {State.SUCCEEDED, State.SKIPPED, State.CANCELLED}
    assert set(BAD_ENDS) == {state for state in State if state.is_end} - others


def test_a_late_commit_weighs_as_much_as_it_has_records():
    buckets = tuple(float(bound) for bound in metrics.FRESHNESS_SECONDS._kwargs["buckets"])
    registries = CollectorRegistry(), CollectorRegistry()
    at_once, one_by_one = (
        metrics.WeightedHistogram("age_seconds", "", ("table",), buckets=buckets, registry=each) for each in registries
    )
    for age, records in ((0.4, 1_000), (600.0, 3), (5_000.0, 2), (0.05, 0)):
        at_once.labels("raw.a").observe_many(age, records)
        for _ in range(records):
            one_by_one.labels("raw.a").observe(age)

    assert values_of(registries[0]) == pytest.approx(values_of(registries[1]))
    counts = {
        float(dict(labels)["le"]): value
        for (name, labels), value in values_of(registries[0]).items()
        if name == "age_seconds_bucket"
    }
    # Three commits in all: by commits, the 95th percentile were that of the latest.
    assert bucket_quantile(0.95, counts) < 0.5


def values_of(registry: CollectorRegistry) -> dict[tuple[str, Labels], float]:
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    return {(each.name, labels_of(each.labels)): each.value for each in samples if not each.name.endswith("_created")}


def test_a_latency_that_an_alert_asks_for_is_below_the_last_bucket():
    # A quantile never passes the highest bound that is finite: such an alert would never fire.
    buckets = [float(bound) for bound in metrics.FRESHNESS_SECONDS._kwargs["buckets"]]
    latencies = [
        each.threshold
        for rule in load_rules(FILE)
        for each in rule.condition.parts
        if each.quantity.name == "processing_latency"
    ]
    assert latencies
    assert max(latencies) < max(buckets)
    assert QUANTITIES["processing_latency"].unit is Unit.SECONDS


def test_a_table_that_stays_behind_is_told_and_a_flow_that_ends_is_not():
    (rule,) = (each for each in load_rules(FILE) if each.name == "table_stale")
    samples, fired, labels = Samples(), {"raw.stuck": [], "raw.ended": []}, labels_of
    alerts: dict[Labels, Alert] = {}
    for second in range(0, 3600, 15):
        for table, end in (("raw.stuck", 3600), ("raw.ended", 600)):
            # As the monitor does when a process has ended: one mark, and nothing behind it.
            value = 1_000_000.0 if second < end else None
            samples.add(
                "workbench_ingestion_complete_timestamp_seconds",
                labels({"table": table, "job": table}), (1_000_000 + second) * 1000, value,
            )  # fmt: skip
        alerts = evaluate(rule, alerts, Moment(samples, (1_000_000 + second) * 1000))
        for found, alert in alerts.items():
            if alert.stage is Stage.FIRING:
                fired[dict(found)["table"]].append(second)

    assert fired["raw.stuck"][0] == pytest.approx(1200, abs=30)
    assert fired["raw.ended"] == []
