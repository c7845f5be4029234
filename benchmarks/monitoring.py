"""What seeing costs: reading the metrics of a process, evaluating alerts, and counting in the Arrow lane.

    python -m benchmarks.monitoring [--series 1000] [--rules 1000] [--seconds 60] [--records 2000000] [--runs 5] [--only alerts,lane]

- *alerts*: a process with so many series. Each second its endpoint is read as the monitor does it,
  and prometheus_client's own endpoint of the same registry, in turns; then so many alerts are
  evaluated and kept as the monitor does it. A real Prometheus reads the same process and evaluates the
  same alerts, which `workbench alerts compile` has written for it.
- *lane*: the same ingestion with metrics, which are read each second, and without.

Writes benchmarks/results/monitoring.json, where a part that is measured alone replaces only itself.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import machine, measure_part
from benchmarks.monitoring_lane import measure_lane
from benchmarks.peers.prometheus import Prometheus, running_prometheus
from pipelines.monitor.evaluating import Evaluation
from tests.services.workbench import wait_until
from workbench.observability.alerts.prometheus import as_rule_file
from workbench.observability.alerts.quantities import is_wanted
from workbench.observability.alerts.rules import load_rules
from workbench.observability.alerts.samples import Samples
from workbench.observability.alerts.telling import Pace
from workbench.observability.endpoint import PATH
from workbench.observability.metrics import EVALUATION_SECONDS
from workbench.observability.monitor.database import MonitorDatabase
from workbench.observability.monitor.scraping import Scraper
from workbench.observability.monitor.targets import Target, read_targets, targets_folder
from workbench.resources import resource
from workbench.runtime.metrics import metrics_token
from workbench.runtime.ports import LOOPBACK

RESULTS = Path(__file__).parent / "results" / "monitoring.json"
JOB = "flow:benchmark"
START_SECONDS = 60
MEASURED_PART = 0.5  # of the seconds: before, the windows of the alerts hold too few samples
#: By table, of which there are many: with thresholds and durations that are all different.
CONDITIONS = (
    "error_rate > {n}%",
    "processing_latency > {n}s",
    "ingestion_rate < {n}000",
    "waiting_records > {n}00",
    "dead_letters > {n}",
    "flow_restarts > {n}",
    "error_rate > {n}% and ingestion_rate > 1",
    "target_down > {n}",
)
DURATIONS = ("1m", "2m", "5m", "10m", "15m")
GOALS = {"scrape": 0.1, "evaluation": 0.2}


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"series": 1000, "rules": 1000, "seconds": 60, "records": 2_000_000, "runs": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", default="alerts,lane")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "alerts": lambda folder: measure_alerts(folder, series=given.series, rules=given.rules, seconds=given.seconds),
        "lane": lambda folder: measure_lane(folder, records=given.records, runs=given.runs),
    }
    result: dict[str, Any] = json.loads(given.output.read_text("utf-8")) if given.output.exists() else {}
    result |= {"machine": machine()}
    command = f"python -m benchmarks.monitoring {' '.join(sys.argv[1:])}".strip()
    for name in given.only.split(","):
        measure_part(result, name, parts[name], command=command, output=given.output)
        shown = {what: value for what, value in result[name]["measured"].items() if what not in ("each", "runs")}
        print(json.dumps(shown, indent=2), flush=True)


def measure_alerts(folder: Path, *, series: int, rules: int, seconds: int) -> dict[str, Any]:
    """Seconds of each scrape and of each evaluation, ours and those of others."""
    home, file = folder / "home", folder / "alerts.yaml"
    home.mkdir(mode=0o700)
    file.write_text(made_rules(rules), encoding="utf-8")
    token = metrics_token(home)
    with ExitStack() as stack:
        peer_port = stack.enter_context(running_worker(home, series))
        (target,) = read_targets(home)
        prometheus = stack.enter_context(
            running_prometheus(
                folder / "prometheus",
                rules=as_rule_file(load_rules(file)),
                token=home / "keys" / "metrics-token",
                targets=targets_folder(home),
            )
        )
        database = stack.enter_context(MonitorDatabase.of(home))
        turns = Turns(Scraper(token, is_wanted), target, peer_port, Evaluation(file, database, Pace()))
        each = turns.run(seconds, prometheus)
        version = prometheus.version
    return {
        "series": turns.series,
        "rules": rules,
        "goals_seconds": GOALS,
        "prometheus": version,
        "median_seconds": {name: statistics.median(values) for name, values in each.items()},
        "most_seconds": {name: max(values) for name, values in each.items()},
        "each": each,
    }


def made_rules(count: int) -> str:
    """So many alerts, as a person writes them into pipelines/alerts.yaml."""
    alerts = [
        {
            "name": f"alert_{number}",
            "condition": CONDITIONS[number % len(CONDITIONS)].format(n=number // len(CONDITIONS)),
            "duration": DURATIONS[number // len(CONDITIONS) % len(DURATIONS)],
            "severity": "warning",
            "channels": ["slack"],
        }
        for number in range(count)
    ]
    return yaml.safe_dump({"channels": {"slack": {"url": "env:SLACK"}}, "alerts": alerts}, sort_keys=False)


class Turns:
    """Does one thing after another, each second."""

    def __init__(self, scraper: Scraper, target: Target, peer_port: int, evaluation: Evaluation) -> None:
        self._scraper, self._target, self._evaluation = scraper, target, evaluation
        self._peer = f"{LOOPBACK}:{peer_port}"
        self._samples = Samples()
        self.series = 0

    def run(self, seconds: int, prometheus: Prometheus) -> dict[str, list[float]]:
        """The seconds of each turn, by what took them."""
        each: dict[str, list[float]] = {}
        theirs: dict[str, float] = {}
        began = time.monotonic()
        for turn in range(seconds):
            time.sleep(max(0.0, began + turn - time.monotonic()))
            found = self._turn(is_ours_first=turn % 2 == 0)
            if turn >= seconds * MEASURED_PART:
                at, took = prometheus.evaluation
                theirs[at] = took
                for name, value in found.items():
                    each.setdefault(name, []).append(value)
        each["evaluation, Prometheus"] = list(theirs.values())
        each["scrape, Prometheus"] = prometheus.query(f'scrape_duration_seconds{{job="{JOB}"}}')
        return each

    def _turn(self, *, is_ours_first: bool) -> dict[str, float]:
        found: dict[str, float] = {}
        headers = {"Authorization": f"Bearer {self._scraper.token.get_secret_value()}"}
        ways = {
            "scrape": lambda: fetch(self._target.address, headers),
            "scrape, prometheus_client": lambda: fetch(self._peer, {}),
        }
        for name in ways if is_ours_first else reversed(ways):
            found[name] = timed(ways[name])[0]
        found["scrape, read and parsed by the monitor"], values = timed(lambda: self._scraper.scrape(self._target))
        self.series, at = len(values), round(time.time() * 1000)
        for (metric, labels), value in values.items():
            self._samples.add(metric, labels, at, value)
        self._samples.add("up", (("job", JOB),), at, 1.0)
        before, cpu = _sum_of_evaluations(), time.process_time()
        found["evaluation, kept in the monitor's file"], _ = timed(lambda: self._evaluation.evaluate(self._samples, at))
        found["evaluation, kept in the monitor's file, processor time"] = time.process_time() - cpu
        found["evaluation"] = _sum_of_evaluations() - before
        return found


@contextmanager
def running_worker(home: Path, series: int) -> Iterator[int]:
    """A process with so many series; gives the port of the peer's endpoint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.monitoring_worker", str(series), JOB],
        env={**os.environ, "PYTHONPATH": str(resource("pyproject.toml").parent), "WORKBENCH_HOME": str(home)},
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        wait_until(lambda: any(read_targets(home)), START_SECONDS, "the endpoint")
        yield port
    finally:
        process.stdin.close()
        process.wait(START_SECONDS)


def fetch(address: str, headers: dict[str, str]) -> int:
    """Read the metrics of an endpoint over a new connection, as each scrape does; gives the bytes."""
    connection = http.client.HTTPConnection(address, timeout=START_SECONDS)
    try:
        connection.request("GET", PATH, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, body[:500]
    return len(body)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result


def _sum_of_evaluations() -> float:
    """What the product itself has measured so far, in seconds."""
    return next(
        sample.value
        for family in EVALUATION_SECONDS.collect()
        for sample in family.samples
        if sample.name.endswith("_sum")
    )


if __name__ == "__main__":
    main()
