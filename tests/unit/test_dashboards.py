"""Pictures of the last day, objectives and their budgets, what is kept of them, and the same for Grafana."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.monitor.programs import _kind_of, read_programs
from tests.services.declared_metrics import declared_metrics
from workbench.errors import MonitorError
from workbench.observability.alerts.expressions import Moment, Value
from workbench.observability.alerts.samples import Samples, labels_of
from workbench.observability.dashboards.drawing import SHOWN_LINES, draw, text_of
from workbench.observability.dashboards.grafana import dashboards
from workbench.observability.dashboards.history import DAY_MS, HOUR_MS, MINUTE_MS, Count, History
from workbench.observability.dashboards.objectives import ERRORS, HUB_REQUESTS, Measured, Tally, measured
from workbench.observability.dashboards.pictures import MOST_LINES, PICTURES, Curve, Unit

ROOT = Path(__file__).parents[2]
NOW = 1_000 * DAY_MS + 5 * MINUTE_MS
# JupyterHub's own, which the monitor reads too.
FOREIGN = {"jupyterhub_request_duration_seconds_bucket"}
LAG = next(each for each in PICTURES if each.name == "lag")
WORDS = {"sum", "min", "max", "by", "rate", "increase", "histogram_quantile", "time", "floor"}


def declared() -> set[str]:
    """Names of series of the metrics that are declared, as Prometheus stores them."""
    found = set()
    for name, kind in declared_metrics().items():
        found |= {f"{name}_{end}" for end in ("bucket", "count", "sum")} if kind == "histogram" else {name}
    return found


def names_in(expression: str) -> set[str]:
    """Names of metrics in an expression of PromQL: what is no word, no label, no text and no number."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", "", bare)
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare)) - WORDS


def test_each_metric_of_grafanas_dashboards_is_declared():
    expressions = [
        target["expr"] for text in dashboards().values() for panel in json.loads(text)["panels"] for target in panel["targets"]
    ]  # fmt: skip

    named = set().union(*map(names_in, expressions))
    assert len(expressions) > 20
    assert named - FOREIGN - declared() == set()
    assert named >= set().union(*(curve.expression.metrics() for each in PICTURES for curve in each.curves))
    assert names_in('1 - sum by (a) (rate(b_total{c="d"}[5m])) / e') == {"b_total", "e"}


def test_the_files_in_deploy_are_what_is_declared_and_have_what_grafana_needs():
    found = dashboards()
    folder = ROOT / "deploy" / "grafana"
    assert {each.name: each.read_text(encoding="utf-8") for each in folder.glob("*.json")} == found

    identifiers = set()
    for text in found.values():
        board = json.loads(text)
        assert board["uid"]
        assert board["title"]
        assert board["schemaVersion"] >= 36
        assert [each["type"] for each in board["templating"]["list"]] == ["datasource"]
        identifiers.add(board["uid"])
        panels = board["panels"]
        assert len({each["id"] for each in panels}) == len(panels)
        places = {(each["gridPos"]["x"], each["gridPos"]["y"]) for each in panels}
        assert len(places) == len(panels)
        for panel in panels:
            assert panel["type"] in {"timeseries", "stat"}
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
            assert panel["targets"]
            assert all(each["datasource"]["uid"] == "${datasource}" for each in panel["targets"])
            assert len({each["refId"] for each in panel["targets"]}) == len(panel["targets"])
    assert len(identifiers) == len(found)


def test_programs_are_counted_among_what_a_process_has_started():
    before = read_programs(os.getpid())
    program = [sys.executable, "-I", "-S", "-c", "input()", "-m", "ipykernel_launcher"]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as kernel:
        found = read_programs(os.getpid())
        assert kernel.stdin
        kernel.stdin.write(b"\n")

    assert found["kernel"].count == before["kernel"].count + 1
    assert found["kernel"].memory_bytes > 0
    assert found["spark"].count == before["spark"].count  # of a Spark that other tests keep, only memory may move
    assert _kind_of(["python", "guard.py", "3", "--", "python", "-m", "ipykernel_launcher"]) is None
    assert _kind_of(["/usr/bin/python", "-P", "-m", "hub.spawning.singleuser", "--port=1"]) == "server"


def test_what_only_the_monitor_knows_is_told_by_no_other_process():
    program = (
        "import prometheus_client as p, workbench.observability.metrics as m; {} print(p.generate_latest().decode())"
    )
    for do, told in {"": [], "m.DISK_RATIO.set(.25);": ["workbench_disk_free_ratio 0.25"]}.items():
        done = subprocess.run([sys.executable, "-c", program.format(do)], capture_output=True, text=True, check=True)
        lines = re.findall(r"^workbench_(?:disk|memory|machine|queue|outbox|audit)\S* \S+$", done.stdout, re.MULTILINE)
        assert lines == told


def test_names_of_pictures_are_their_own():
    names = [each.name for each in PICTURES]
    assert len({*names}) == len(names)
    assert all(re.fullmatch(r"[a-z-]+", each) for each in names)


def test_points_and_counts_are_kept_as_long_as_they_should_be_and_for_nobody_else(tmp_path):
    path = tmp_path / "monitor.sqlite"
    with History(path) as history, History(path, reading=True) as reader:
        assert path.stat().st_mode & 0o777 == 0o600
        for at in (NOW - DAY_MS - 1, NOW - MINUTE_MS, NOW):
            history.add(at, [("lag", "raw.flights", 1234567.0)])
        for at in (NOW - 31 * DAY_MS, NOW - DAY_MS, NOW, NOW):
            history.count(at, [Count(objective="errors", good=9, total=10)])
        history.let_go(NOW)

        assert reader.read(0) == {"lag": {"raw.flights": [(NOW - MINUTE_MS, 1234570.0), (NOW, 1234570.0)]}}
        assert reader.counts(0) == [Count(objective="errors", good=27, total=30)]
        assert reader.counts(NOW) == [Count(objective="errors", good=18, total=20)]

        history.move(HOUR_MS)
        assert [at for at, _ in reader.read(0)["lag"]["raw.flights"]] == [NOW - MINUTE_MS + HOUR_MS, NOW + HOUR_MS]
        assert reader.counts(NOW + HOUR_MS) == [Count(objective="errors", good=18, total=20)]
        with pytest.raises(MonitorError, match="readonly"):
            reader.let_go(NOW)
    with History(path, reading=True) as reader:
        assert len(reader.read(0)["lag"]["raw.flights"]) == 2, "it is read while no monitor runs, too"
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}


def test_who_reads_before_the_monitor_has_run_is_told_so(tmp_path):
    with pytest.raises(MonitorError, match="cannot be opened"), History.of(tmp_path, reading=True):
        pytest.fail("there is no file")
    assert list(tmp_path.iterdir()) == []


def test_a_day_of_many_lines_takes_a_few_megabytes(tmp_path):
    path = tmp_path / "monitor.sqlite"
    with History(path) as history:
        history._connection.execute("BEGIN")
        for minute in range(1440):
            points = [("lag", f"raw.table_{line}", minute * 7919 % (line + 1013)) for line in range(60)]
            history.add(NOW + minute * MINUTE_MS, points)
        history._connection.execute("COMMIT")
        found = history.read(NOW)

    assert len(found["lag"]) == 60
    assert path.stat().st_size < 2_000_000


def samples_of_hub(*, fast: int, slow: int, failed: int, handler: str = "jupyterhub.handlers.pages.HomeHandler"):
    counts = {"200": (fast, fast + slow), "500": (failed, failed)}
    for code, (quick, total) in counts.items():
        for bound, value in (("0.5", 0), ("1.0", quick), ("+Inf", total)):
            labels = {"method": "GET", "handler": handler, "code": code, "le": bound}
            yield HUB_REQUESTS, labels_of(labels), float(value)


def test_requests_are_counted_from_look_to_look():
    tally = Tally()
    assert tally.look(samples_of_hub(fast=100, slow=5, failed=1)) == []

    grown = tally.look(samples_of_hub(fast=110, slow=6, failed=3))
    assert grown == [
        Count(objective="response_time", good=12, total=13),
        Count(objective="errors", good=11, total=13),
    ]
    # The hub is away for one look, and comes back with counters that begin anew.
    assert tally.look([(HUB_REQUESTS, (), None)]) == []
    assert tally.look(samples_of_hub(fast=2, slow=0, failed=0)) == [
        Count(objective="response_time", good=2, total=2),
        Count(objective="errors", good=2, total=2),
    ]


def test_probes_and_streams_are_no_requests():
    tally = Tally()
    for handler in ("jupyterhub.handlers.pages.HealthCheckHandler", "hub.health.Ready"):
        tally.look(samples_of_hub(fast=0, slow=0, failed=0, handler=handler))
        assert tally.look(samples_of_hub(fast=9, slow=9, failed=9, handler=handler)) == []


def ready(**components: int):
    return [("workbench_component_ready", labels_of({"component": name}), float(up)) for name, up in components.items()]


def test_the_workbench_is_available_while_people_can_work():
    tally = Tally()
    whole = [
        next(each.good for each in tally.look(found) if not each.part)
        for found in (ready(hub=1, warehouse=1, monitor=0), ready(hub=1, warehouse=0), ready(hub=0, warehouse=1))
    ]
    assert whole == [True, False, False]
    assert tally.look(ready(monitor=0)) == [Count(objective="availability", part="monitor", good=False, total=1)]
    assert tally.look([]) == []


def test_what_is_left_of_a_budget():
    assert Measured(objective=ERRORS, good=1000, total=1000).budget_left == 1
    half = Measured(objective=ERRORS, good=995, total=1000)
    assert half.budget_left == pytest.approx(0.5)
    assert half.is_met
    spent = Measured(objective=ERRORS, good=980, total=1000)
    assert spent.budget_left == pytest.approx(-1)
    assert not spent.is_met
    assert [(each.share, each.budget_left, each.is_met) for each in measured([])] == [(None, None, True)] * 3


def test_a_picture_has_lines_gaps_ticks_and_words():
    minutes = [0, 1, 2, 30, 31]
    points = [(NOW - HOUR_MS + each * MINUTE_MS, float(each)) for each in minutes]
    drawn = draw(LAG, {"raw.flights": points}, NOW - HOUR_MS, NOW)

    (line,) = drawn.lines
    assert line.path.count("M") == 2, "what was not measured is not joined"
    assert line.path.count("L") == 3
    assert (line.least, line.most, line.last) == ("0", "31", "")
    assert drawn.description.endswith("raw.flights from 0 to 31.")
    assert [each.text for each in drawn.rows] == ["0", "10", "20", "30", "40"]
    assert [each.text for each in drawn.columns][:2] == ["23:10", "23:20"]
    assert all(0 <= float(number) <= 640 for number in re.findall(r"[ML](\S+)", line.path))


def test_a_picture_shows_the_largest_lines_and_the_largest_value_of_a_column():
    day = [(NOW - DAY_MS + minute * MINUTE_MS, 5.0 if minute == 701 else 1.0) for minute in range(1440)]
    found = {f"line-{number}": [(at, value * (number + 1)) for at, value in day] for number in range(SHOWN_LINES + 3)}
    drawn = draw(LAG, found, NOW - DAY_MS, NOW)

    assert drawn.hidden == 3
    assert {each.label for each in drawn.lines} == {f"line-{number}" for number in range(3, SHOWN_LINES + 3)}
    assert all(len(each.path) < 8_000 for each in drawn.lines)
    highest = min(float(y) for y in re.findall(r"[ML]\S+ ([\d.]+)", drawn.lines[-1].path))
    assert highest < 100, "the minute that stood out is seen"


def test_an_empty_picture_says_why():
    drawn = draw(LAG, {}, NOW - HOUR_MS, NOW)
    assert (drawn.lines, drawn.description) == ((), "No flow runs.")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.35, Unit.SECONDS, "350 ms"), (90, Unit.SECONDS, "1.5 min"), (2 * 86400, Unit.SECONDS, "2 d"),
        (0.995, Unit.SHARE, "99.5 %"), (1.4e9, Unit.BYTES, "1.4 GB"), (1234, Unit.NUMBER, "1.23 k"),
        (12, Unit.PER_SECOND, "12 /s"), (0, Unit.NUMBER, "0"),
    ],
)  # fmt: skip
def test_values_are_told_for_people(value, unit, text):
    assert text_of(value, unit) == text


def test_only_the_largest_lines_are_kept_and_no_value_that_is_none():
    samples = Samples()
    for number in range(MOST_LINES + 5):
        samples.add("workbench_x", labels_of({"table": f"t{number:02}"}), NOW, float(number))
    samples.add("workbench_x", labels_of({"table": "nan"}), NOW, float("nan"))

    kept = Curve("", Value("workbench_x")).evaluate(Moment(samples, NOW))

    assert len(kept) == MOST_LINES
    assert min(kept.values()) == 5
