"""`workbench demo`: real flights through real Kafka into a real warehouse, then a notebook over them with Spark.

Every part can be run again: what is in the topic is not sent twice, what is in the warehouse
is not written twice, and the notebook replaces the month that it computes.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import nycflights
from pipelines.engine import run_notebook
from workbench.errors import KafkaError
from workbench.flows import ingest_flow
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.watermarks import read_topic_state
from workbench.ingestion.definition import read_flow
from workbench.ingestion.encoding import encode_rows
from workbench.ingestion.producer import OutgoingRecord, produce, stable_partition
from workbench.ingestion.topics import apply_topics, plan_topics, read_topics
from workbench.resources import resource
from workbench.settings import Settings
from workbench.warehouse.copy import replace_table

KEYS = {"flights": "carrier", "weather": "origin"}
Progress = Callable[[int], object]
ProgressBar = Callable[[str, int | None], Any]  # description, total -> context manager that gives a Progress


@dataclass(frozen=True)
class Part:
    """How long one part took, over how many rows."""

    rows: int
    seconds: float

    def as_dict(self) -> dict[str, float]:
        """Rows, seconds and rows per second."""
        rate = self.rows / self.seconds if self.seconds else 0.0
        return {"rows": self.rows, "seconds": round(self.seconds, 2), "rows_per_second": round(rate)}


def run_demo(settings: Settings, month: int, bar: ProgressBar) -> dict[str, Any]:
    """Run all parts and return what each did.

    Raises:
        WorkbenchError: of the part that failed; running the demo again goes on from there.
    """
    started = time.monotonic()
    connection = KafkaConnection.from_settings(settings.kafka)
    make_topics(connection)
    produced, ingested = {}, {}
    for name, key in KEYS.items():
        table = nycflights.read_table(name)
        with bar(f"produce {name}", table.num_rows) as progress:
            produced[name] = produce_missing(connection, name, table, key, progress)
    for name in KEYS:
        with bar(f"ingest {name}", None) as progress:
            ingested[name] = ingest_flow(settings, read_flow(resource("pipelines") / "flows", name), progress)
    with bar("load airlines, airports, planes", None):
        small = {name: load_small(settings, name) for name in nycflights.SMALL_TABLES}
    with bar("notebook daily-delays", None):
        notebook_started = time.monotonic()
        output = run_daily_delays(settings, month)
        notebook_seconds = time.monotonic() - notebook_started
    return {
        "produced": {name: part.as_dict() for name, part in produced.items()},
        "ingested": {name: Part(each.rows, each.seconds).as_dict() for name, each in ingested.items()},
        "dead": sum(each.dead for each in ingested.values()),
        "loaded": small,
        "notebook": {"output": str(output), "month": month, "seconds": round(notebook_seconds, 2)},
        "seconds": round(time.monotonic() - started, 2),
    }


def make_topics(connection: KafkaConnection) -> None:
    """Create the topics of the demo.

    Raises:
        KafkaError: when one is there with other partitions; it may be somebody's, and the demo
            could not tell how many of its rows it holds.
    """
    topics = [topic for topic in read_topics(resource("pipelines") / "topics.yaml") if topic.name in KEYS]
    changes = plan_topics(connection, topics)
    others = [change.detail for change in changes if change.about in {"partitions", "replication"}]
    if others:
        raise KafkaError(
            f"the cluster has topics of these names that are not the demo's: {'; '.join(others)}",
            remedy="Run the demo against another cluster, or without KAFKA_BROKERS.",
        )
    # Other properties of a topic that is there do not matter to the demo; only `topics apply` changes them.
    apply_topics(connection, [change.topic for change in changes if change.about == "topic"])


def produce_missing(connection: KafkaConnection, topic: str, table: pa.Table, key: str, progress: Progress) -> Part:
    """Send the rows that the topic does not hold yet.

    The same rows always go to the same partitions in the same order, so the end offset of a
    partition tells how many of its rows are there, even after a producer was killed half-way.
    """
    started = time.monotonic()
    present = read_topic_state(connection, topic).next_offsets
    records = skip_present(encode_rows(nycflights.rows(table), key), present)
    progress(min(sum(present.values()), table.num_rows))
    return Part(produce(connection, topic, records, progress=progress), time.monotonic() - started)


def skip_present(records: Iterator[OutgoingRecord], present: Mapping[int, int]) -> Iterator[OutgoingRecord]:
    """Give each record its partition and leave out the first `present[partition]` of each."""
    seen: Counter[int] = Counter()
    for record in records:
        partition = stable_partition(record.key or b"", len(present))
        seen[partition] += 1
        if seen[partition] > present[partition]:
            yield OutgoingRecord(record.value, record.key, partition)


def load_small(settings: Settings, name: str) -> int:
    """Replace raw.NAME with the file of that name."""
    table = nycflights.read_table(name)
    replace_table(settings.warehouse, f"raw.{name}", table)
    return int(table.num_rows)


def run_daily_delays(settings: Settings, month: int) -> Path:
    """Run the production notebook for one month; returns the output notebook."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    output = settings.home / "runs" / "daily-delays" / f"month-{month:02d}-{stamp}.ipynb"
    return run_notebook(resource("notebooks") / "production" / "daily-delays.ipynb", output, {"month": month})


def as_line(result: dict[str, Any]) -> str:
    """The result as one line of JSON."""
    return json.dumps(result, separators=(",", ":"))
