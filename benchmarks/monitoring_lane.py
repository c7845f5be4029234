"""What metrics cost the Arrow lane: the same records with metrics and without, in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from benchmarks.ingest import compare
from benchmarks.peers.records import Load, drop_tables, expected_answers
from benchmarks.peers.servers import running_servers
from workbench.observability.alerts.quantities import is_wanted
from workbench.observability.monitor.scraping import ScrapeFailed, Scraper
from workbench.observability.monitor.targets import read_targets
from workbench.resources import resource
from workbench.runtime.metrics import metrics_token

KINDS = ("on", "off")
SCRAPE_SECONDS = 1.0  # the monitor reads every 15 s
LONGEST_SECONDS = 900


def measure_lane(folder: Path, *, records: int, runs: int) -> dict[str, Any]:
    """Seconds of each run, which of both is first changes; the table is compared with the records after each."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    expected = expected_answers(records)
    with running_servers(folder / "servers") as servers:
        load = servers.load(records, tls=True)
        for number in range(runs):
            for kind in KINDS if number % 2 == 0 else reversed(KINDS):
                drop_tables(load)
                servers.settle()
                found[kind].append(run_once(load, folder / f"{kind}-{number}", kind))
                compare(load, expected)
                print(f"lane {number + 1} metrics {kind:<4} {found[kind][-1]}", flush=True)
    medians = {kind: statistics.median(each["seconds"] for each in runs) for kind, runs in found.items()}
    return {
        "records": records,
        "runs": found,
        "cost_percent_of_medians": 100 * (medians["on"] / medians["off"] - 1),
        "cost_percent_inside": statistics.median(
            100 * each["metrics_seconds"] / each["seconds"] for each in found["on"]
        ),
    }


def run_once(load: Load, home: Path, kind: str) -> dict[str, float]:
    """One ingestion in a process of its own; while it runs, its metrics are read as the monitor reads them."""
    home.mkdir(mode=0o700)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.monitoring_lane_worker", str(load.write(home / "load.json")), kind],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(resource("pyproject.toml").parent), "WORKBENCH_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    ended, scrapes = threading.Event(), list[int]()
    thread = threading.Thread(target=_read_again_and_again, args=(home, ended, scrapes))
    thread.start()
    try:
        output, _ = process.communicate(timeout=LONGEST_SECONDS)
    finally:
        ended.set()
        thread.join()
    assert process.returncode == 0
    return {**json.loads(output.splitlines()[-1]), "scrapes": len(scrapes)}


def _read_again_and_again(home: Path, ended: threading.Event, scrapes: list[int]) -> None:
    scraper = Scraper(metrics_token(home), is_wanted)
    while not ended.wait(SCRAPE_SECONDS):
        for target in read_targets(home):
            try:
                scrapes.append(len(scraper.scrape(target)))
            except ScrapeFailed:
                continue  # it has just ended
