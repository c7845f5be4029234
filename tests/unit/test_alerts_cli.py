"""`workbench alerts list`, `compile`, `silence`, `silences` and `unsilence`, and what of the metrics of processes becomes samples."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge
from typer.testing import CliRunner

from pipelines.monitor import targets as reading
from pipelines.monitor.targets import Targets
from workbench.cli.main import make_application
from workbench.observability.alerts.states import Alert, Stage
from workbench.observability.endpoint import metrics_endpoint
from workbench.observability.monitor.database import MonitorDatabase
from workbench.observability.monitor.scraping import Scraper
from workbench.observability.monitor.targets import Target, read_targets, target_file
from workbench.runtime.metrics import metrics_token, publish_target
from workbench.security.audit import AuditLog, read_events


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: str):
    return CliRunner().invoke(make_application(), ["alerts", *arguments])


def test_dashboards_are_written_for_grafana(tmp_path: Path, home: Path):
    assert run("dashboards", str(tmp_path)).exit_code == 0
    written = {each.name: json.loads(each.read_text())["uid"] for each in tmp_path.glob("*.json")}
    assert written == {"workbench.json": "workbench", "workbench-objectives.json": "workbench-objectives"}

    refused = run("dashboards", str(tmp_path / "nowhere"))
    assert refused.exit_code == 1


def test_alerts_are_listed_and_one_that_fires_is_an_exit_code(home: Path):
    quiet = run("list")
    assert quiet.exit_code == 0
    assert "security_events" in quiet.output
    assert "No monitor has evaluated them yet" in quiet.output

    # Read here: a module of a long run is imported an hour before its tests, and the monitor would be old.
    now = int(time.time() * 1000)
    labels = (("table", "raw.flights"),)
    with MonitorDatabase.of(home) as database, database.changing():
        database.set_alerts({"high_error_rate": {labels: Alert(labels, Stage.FIRING, 0.5, now, now)}}, now)
    firing, machine = run("list"), run("list", "--json")

    assert (firing.exit_code, machine.exit_code) == (1, 1)
    assert "firing" in firing.output
    assert "no monitor" not in firing.output.lower()
    (alert,) = json.loads(machine.output)["alerts"]
    assert (alert["name"], alert["state"], alert["labels"]) == ("high_error_rate", "firing", dict(labels))


def test_a_silence_is_made_listed_ended_and_audited(home: Path):
    made = run("silence", "high_error_rate", "--for", "2h", "--because", "repair", "--label", "table=raw.flights")
    assert made.exit_code == 0, made.output
    (silence,) = json.loads(run("silences", "--json").output)["silences"]
    assert (silence["rule"], silence["labels"], silence["reason"]) == (
        "high_error_rate", {"table": "raw.flights"}, "repair",
    )  # fmt: skip
    assert silence["made_by"].startswith("operator:")
    assert 7100 < silence["until"] - time.time() <= 7200
    assert "repair" in run("silences").output

    assert run("unsilence", "1").exit_code == 0
    assert json.loads(run("silences", "--json").output) == {"silences": []}
    assert run("unsilence", "1").exception.exit_code == 2
    found = [(each.action, each.resource, each.outcome) for each in read_events(AuditLog.of(home).path)]
    assert ("alert.silenced", "alert:high_error_rate", "success") in found
    assert ("alert.unsilenced", "silence:1", "success") in found
    assert ("alert.unsilenced", "silence:1", "failed") in found


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing", "--for", "2h", "--because", "x"), "there is no alert 'nothing'"),
        (("*", "--for", "2", "--because", "x"), "'2' is no duration"),
        (("*", "--for", "31d", "--because", "x"), "'31d' is no duration"),
        (("*", "--for", "0s", "--because", "x"), "'0s' is no duration"),
        (("*", "--for", "1h", "--because", "x", "--label", "table"), "'table' is no label"),
    ],
)
def test_a_silence_that_means_nothing_is_refused(home: Path, arguments, told):
    assert told in run("silence", *arguments).exception.message


def test_rules_for_prometheus_are_printed_or_written(home: Path, tmp_path: Path):
    printed, written = run("compile"), run("compile", "--output", str(tmp_path / "rules.yaml"))

    assert (printed.exit_code, written.exit_code) == (0, 0)
    assert (tmp_path / "rules.yaml").read_text() == printed.output
    assert len(yaml.safe_load(printed.output)["groups"][0]["rules"]) >= 10
    assert "cannot be written" in run("compile", "--output", str(tmp_path / "no" / "rules.yaml")).exception.message


def test_series_end_with_their_process_and_one_that_was_killed_is_missed_for_a_while(tmp_path, monkeypatch):
    registry = CollectorRegistry()
    gauge = Gauge("workbench_things", "Things.", ["kind"], registry=registry)
    gauge.labels("a").set(1)
    gauge.labels("b").set(2)
    Gauge("python_things", "Not ours.", registry=registry).set(1)
    a, b = ((("job", "flow:f"), ("kind", kind)) for kind in "ab")
    up = ("up", (("job", "flow:f"),))
    targets = Targets(tmp_path, Scraper(metrics_token(tmp_path), lambda name: name.startswith("workbench_")))
    with metrics_endpoint(metrics_token(tmp_path), registry) as port:
        publish_target(tmp_path, "flow:f", f"127.0.0.1:{port}")
        assert targets.scrape() == [("workbench_things", a, 1.0), ("workbench_things", b, 2.0), (*up, 1.0)]
        gauge.remove("b")
        assert targets.scrape() == [("workbench_things", a, 1.0), (*up, 1.0), ("workbench_things", b, None)]

    # The port is closed, as of a process that was killed: its file says which one it was.
    assert targets.scrape() == [(*up, 0.0), ("workbench_things", a, None)]
    target_file(tmp_path, "flow:f").write_text(
        Target(job="flow:f", address=f"127.0.0.1:{port}", pid=1, born="1.0").as_json()
    )
    assert targets.scrape() == [(*up, 0.0)]
    monkeypatch.setattr(reading, "FORGET_SECONDS", -1.0)
    assert targets.scrape() == [(*up, None)]
    assert list(read_targets(tmp_path)) == []


def test_a_file_that_is_no_target_is_passed_over(tmp_path: Path, caplog):
    publish_target(tmp_path, "flow:f", "127.0.0.1:1")
    target_file(tmp_path, "other").write_text('[{"targets": []}]')

    assert [each.job for each in read_targets(tmp_path)] == ["flow:f"]
    assert "other.json is no target" in caplog.text
    with pytest.raises(ValueError, match="no name of a job"):
        target_file(tmp_path, "../x")
