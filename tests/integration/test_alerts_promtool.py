"""Our evaluation of alerts and Prometheus' own, by promtool: the same alerts pend and fire at the same instants."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter

import pytest

from tests.services import alert_series
from tests.services import promtool as tools
from tests.services.promtool import major, promtool
from workbench.observability.alerts.expressions import Moment
from workbench.observability.alerts.prometheus import as_rule_file
from workbench.observability.alerts.rules import load_rules
from workbench.observability.alerts.samples import PROMETHEUS_3, Samples
from workbench.observability.alerts.states import Stage, evaluate

SCENARIOS = 100
RULES = """
channels: {slack: {url: env:SLACK}, email: {url: env:EMAIL}}
alerts:
  - {name: high_error_rate, condition: error_rate > 5%, duration: 5m, severity: critical, channels: [slack, email]}
  - {name: pipeline_latency, condition: processing_latency > 30s, duration: 10m, severity: warning, channels: [slack]}
  - {name: security_events, condition: auth_failures > 10, duration: 5m, severity: critical, channels: [slack]}
  - {name: any_errors, condition: error_rate > 0, severity: info, channels: []}
  - {name: errors_with_traffic, condition: error_rate >= 10% and ingestion_rate > 1, duration: 3m, severity: info, channels: []}
  - {name: dead, condition: dead_letters >= 5, duration: 7m, severity: info, channels: []}
  - {name: slow_now, condition: processing_latency > 60s, severity: info, channels: []}
  - {name: refused, condition: security_refusals != 0, duration: 2m, severity: info, channels: []}
  - {name: lag, condition: waiting_records > 4000, duration: 4m, keep_firing: 3m, severity: warning, channels: [slack]}
  - {name: lag_exact, condition: waiting_records == 7, duration: 1m, severity: warning, channels: [slack]}
  - {name: disk, condition: disk_free < 10%, duration: 2m, severity: critical, channels: [slack]}
  - {name: disk_strange, condition: disk_free != 50%, severity: info, channels: []}
  - {name: gone, condition: target_down > 0, duration: 3m, keep_firing: 6m, severity: critical, channels: [slack]}
  - {name: old, condition: pipeline_age >= 3m, duration: 2m, severity: warning, channels: [email]}
  - {name: certificate, condition: certificate_lifetime < 10m, duration: 90s, severity: warning, channels: [email]}
  - {name: queue, condition: queue_depth <= 20, duration: 1m, severity: info, channels: []}
"""


def expected(rules, scenario, semantics):
    """What our evaluation says at each minute: labels of `ALERTS` with the stage."""
    samples = Samples()
    for each in scenario:
        each.add_to(samples)
    states = {rule.name: {} for rule in rules}
    for number in range(alert_series.STEPS):
        at = number * alert_series.STEP_MS
        found, moment = [], Moment(samples, at, semantics)
        for rule in rules:
            states[rule.name] = evaluate(rule, states[rule.name], moment)
            for alert in states[rule.name].values():
                if alert.stage is not Stage.RESOLVED:
                    channels = f",{','.join(rule.channels)},"
                    fixed = {"alertname": rule.name, "severity": rule.severity, "channels": channels}
                    found.append({**fixed, "alertstate": alert.stage, **dict(alert.labels)})
        yield at, found


def as_test(at, found):
    samples = [
        {"labels": "ALERTS{" + ",".join(f'{name}="{value}"' for name, value in each.items()) + "}", "value": 1}
        for each in found
    ]
    return {"expr": "ALERTS", "eval_time": f"{at // 1000}s", "exp_samples": samples}


def test_the_same_alerts_pend_and_fire_at_the_same_instants(tmp_path):
    tool = promtool()
    semantics = alert_series.PROMETHEUS_2 if major(tool) == 2 else PROMETHEUS_3
    (tmp_path / "alerts.yaml").write_text(RULES)
    rules = load_rules(tmp_path / "alerts.yaml")
    (tmp_path / "rules.yaml").write_text(as_rule_file(rules))
    tests, seen, series = [], Counter(), 0
    for seed in range(SCENARIOS):
        scenario = alert_series.made(seed)
        series += len(scenario)
        steps = list(expected(rules, scenario, semantics))
        seen.update((each["alertname"], str(each["alertstate"])) for _, found in steps for each in found)
        tests.append(
            {
                "interval": "1m",
                "input_series": [each.as_promtool() for each in scenario],
                "promql_expr_test": [as_test(at, found) for at, found in steps],
            }
        )
    # JSON is YAML, and written in a tenth of the time.
    text = json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests})
    (tmp_path / "tests.yaml").write_text(text)

    done = subprocess.run(
        [tool, "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False
    )

    assert done.returncode == 0, (done.stdout + done.stderr)[:4000]
    assert series >= 300
    # It says nothing unless each alert has been both, where it can.
    instant = {rule.name for rule in rules if not rule.for_seconds}
    wanted = {(rule.name, "firing") for rule in rules} | {
        (rule.name, "pending") for rule in rules if rule.name not in instant
    }
    assert set(seen) >= wanted - {("lag_exact", "firing"), ("lag_exact", "pending")}


@pytest.mark.parametrize(("ci", "ends"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_promtool_the_comparison_fails_in_ci_and_is_skipped_elsewhere(monkeypatch, tmp_path, ci, ends):
    def fetch(_: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(tools, "CACHE", tmp_path)
    monkeypatch.setattr(tools, "_fetch", fetch)

    with pytest.raises(ends, match=r"promtool.*no network.*is not there"):
        promtool.__wrapped__()
