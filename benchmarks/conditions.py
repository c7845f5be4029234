"""Ingestion under conditions: broken records, ten million records, a steady stream, a DuckDB file.

    python -m benchmarks.conditions [--runs 3] [--long 10000000] [--seconds 30]

- *clean* and *broken*: two million records of 127 bytes, and the same with one in a thousand cut
  short; the two alternate.
- *duckdb*: the clean ones into an encrypted DuckDB file.
- *long*: resident memory at each tenth of a long run, which should not grow.
- *fresh*: a worker that follows while 50,000 records a second are sent; the age of every record
  when the transaction that holds it was committed.

Each runs in a process of its own, with every guarantee on and TLS to the broker. Writes
benchmarks/results/conditions.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer

from benchmarks.machine import machine
from benchmarks.peers.records import PARTITIONS, Load, connect, create_topic, drop_tables, make_record, produce_records
from benchmarks.peers.servers import Servers, running_servers
from tests.services.workbench import wait_until

RESULTS = Path(__file__).parent / "results" / "conditions.json"
ROOT = Path(__file__).parent.parent
RECORDS = 2_000_000
BROKEN_EVERY = 1000
STREAM_PER_SECOND = 50_000
TICK_SECONDS = 0.02


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--long", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_servers(Path(folder) / "home") as servers:
        result = {
            "machine": machine(),
            "command": f"python -m benchmarks.conditions --runs {arguments.runs} --long {arguments.long} --seconds {arguments.seconds}",
            **measure(servers, Path(folder), arguments),
        }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in result.items() if name != "machine"}, indent=2))


def measure(servers: Servers, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All conditions, one after another."""
    clean = servers.load(RECORDS, tls=True)
    broken = broken_load(clean)
    rates: dict[str, list[float]] = {"clean": [], "broken": [], "duckdb": []}
    for number in range(arguments.runs):
        for name, load, dialect in (
            ("clean", clean, "postgresql"),
            ("broken", broken, "postgresql"),
            ("duckdb", clean, "duckdb"),
        ):
            done = run_worker("ingest", servers, load, folder / f"{name}-{number}", dialect)
            assert done["rows"] + done["dead"] == RECORDS, done
            rates[name].append(done["rows_per_second"])
            print(name, done, flush=True)
    return {
        "rows_per_second": {
            name: {"median": round(statistics.median(found)), "runs": found} for name, found in rates.items()
        },
        "broken_cost_percent": round(
            100 * (1 - statistics.median(rates["broken"]) / statistics.median(rates["clean"])), 1
        ),
        "long": run_long(servers, arguments.long, folder),
        "fresh": run_stream(servers, arguments.seconds, folder),
    }


def broken_load(clean: Load) -> Load:
    """The same records, one in a thousand cut short."""
    topic = f"{clean.topic}-broken"
    load = Load(kafka=clean.kafka, warehouse=clean.warehouse, topic=topic, records=clean.records)
    if create_topic(load.connection, topic):
        producer = Producer({**load.connection.for_confluent(), "compression.type": "lz4", "linger.ms": 50})
        for number in range(load.records):
            value = make_record(number)
            while True:
                try:
                    cut = value[:60] if number % BROKEN_EVERY == 0 else value
                    producer.produce(topic, cut, partition=number % PARTITIONS)
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
        assert producer.flush(120) == 0
    return load


def run_long(servers: Servers, records: int, folder: Path) -> dict[str, Any]:
    """Memory of a run over many records."""
    short = servers.load(RECORDS, tls=True)
    load = Load(kafka=short.kafka, warehouse=short.warehouse, topic=f"records-{records}", records=records)
    if create_topic(load.connection, load.topic):
        produce_records(load.connection, load.topic, records)
    done = run_worker("ingest", servers, load, folder / "long")
    print("long", done, flush=True)
    assert done["rows"] == records, done
    return done


def run_stream(servers: Servers, seconds: int, folder: Path) -> dict[str, Any]:
    """Ages of records that are sent steadily, when they are committed."""
    short = servers.load(RECORDS, tls=True)
    load = Load(kafka=short.kafka, warehouse=short.warehouse, topic=f"stream-{time.time_ns()}", records=0)
    create_topic(load.connection, load.topic)
    drop_tables(load)
    work = folder / "fresh"
    with start_worker("follow", load, work) as worker:
        wait_until(lambda: has_begun(load), 60, "the worker to claim its partitions")
        send_steadily(load, seconds)
        time.sleep(3)
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    ages = np.load(work / "ages.npy")
    found = {f"p{each}_seconds": round(float(np.percentile(ages, each)), 3) for each in (50, 99, 100)}
    done = {"records": len(ages), "sent_per_second": STREAM_PER_SECOND, **found}
    assert len(ages) == STREAM_PER_SECOND * seconds, done
    print("fresh", done, flush=True)
    return done


def has_begun(load: Load) -> bool:
    """Whether the worker has claimed the partitions."""
    with connect(load.warehouse) as connection:
        if connection.execute("SELECT 1 WHERE to_regclass('workbench.offsets') IS NULL").fetchone():
            return False
        found = connection.execute("SELECT count(*) FROM workbench.offsets WHERE topic = %s", (load.topic,)).fetchone()
        return found == (PARTITIONS,)


def send_steadily(load: Load, seconds: int, per_second: int = STREAM_PER_SECOND) -> None:
    """Send the same number of records in every fiftieth of a second."""
    producer = Producer({**load.connection.for_confluent(), "linger.ms": 5, "compression.type": "lz4"})
    batch = [make_record(number) for number in range(round(per_second * TICK_SECONDS))]
    started = time.monotonic()
    for tick in range(round(seconds / TICK_SECONDS)):
        time.sleep(max(started + tick * TICK_SECONDS - time.monotonic(), 0))
        for partition, value in zip(range(len(batch)), batch, strict=True):
            producer.produce(load.topic, value, partition=partition % PARTITIONS)
        producer.poll(0)
    assert producer.flush(60) == 0


def run_worker(what: str, servers: Servers, load: Load, work: Path, dialect: str = "postgresql") -> dict[str, Any]:
    """Run one process to its end and return what it tells."""
    drop_tables(load)
    servers.settle()
    with start_worker(what, load, work, dialect) as worker:
        output, _ = worker.communicate(timeout=900)
    assert worker.returncode == 0
    return dict(json.loads(output.splitlines()[-1]))


def start_worker(what: str, load: Load, work: Path, dialect: str = "postgresql") -> subprocess.Popen[str]:
    """A process of this module."""
    work.mkdir(mode=0o700)
    file = load.write(work / "load.json")
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.conditions_worker", what, str(file), dialect],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(ROOT), "WORKBENCH_HOME": str(work)},
        stdout=subprocess.PIPE,
        text=True,
    )


if __name__ == "__main__":
    main()
