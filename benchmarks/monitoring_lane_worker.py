"""The flow of the benchmark's lanes with metrics or without: the switch is here, since the product has none."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Self

from prometheus_client.metrics import MetricWrapperBase

from benchmarks.peers.records import Load
from benchmarks.workbench_worker import COLUMNS
from workbench import flows
from workbench.ingestion.batch import Commit
from workbench.ingestion.definition import Flow, make_flow
from workbench.observability import metrics
from workbench.runtime.metrics import serving_metrics
from workbench.settings import Settings


class Nothing:
    """A metric that counts nothing."""

    def labels(self, *_: object) -> Self:
        """Of any labels."""
        return self

    def inc(self, _: float = 1) -> None:
        """Nothing."""

    def observe(self, _: float) -> None:
        """Nothing."""

    def observe_many(self, _: float, __: int) -> None:
        """Nothing."""

    def set(self, _: float) -> None:
        """Nothing."""


def main() -> None:
    """Ingest what the topic holds; print seconds, and how many of them were spent on metrics."""
    load, is_on = Load.read(Path(sys.argv[1])), sys.argv[2] == "on"
    fields = {"topic": load.topic, "into": f"{load.schema}.{load.table}", "columns": COLUMNS, "mode": "append"}
    settings = Settings.load(embedded=False).model_copy(update={"kafka": load.kafka, "warehouse": load.warehouse})
    if not is_on:
        for name, value in list(vars(metrics).items()):
            if isinstance(value, MetricWrapperBase):
                setattr(metrics, name, Nothing())
    inside: list[float] = []
    measure = flows.measure_commit

    def timed(flow: Flow, commit: Commit) -> None:
        began = time.perf_counter()
        measure(flow, commit)
        inside.append(time.perf_counter() - began)

    flows.measure_commit = timed
    with serving_metrics(settings.home, "flow:benchmark") if is_on else nullcontext():
        began, cpu = time.perf_counter(), time.process_time()
        flows.ingest_flow(settings, make_flow("benchmark", fields), lambda _: None)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    told = {"seconds": seconds, "cpu_seconds": cpu, "commits": len(inside), "metrics_seconds": sum(inside)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
