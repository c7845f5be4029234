"""A process with many series, which serves them as a flow does, and to a peer's endpoint; it ends when its input does."""

from __future__ import annotations

import random
import select
import sys

from prometheus_client import REGISTRY, start_http_server

from workbench.flows import measure_commit
from workbench.ingestion.batch import Commit
from workbench.ingestion.definition import Flow
from workbench.observability import metrics
from workbench.observability.alerts.quantities import is_wanted
from workbench.runtime.metrics import serving_metrics
from workbench.runtime.ports import LOOPBACK
from workbench.settings import Settings

SECONDS = 0.25  # between two commits of every flow


def main() -> None:
    """Make flows until there are as many series as are asked for, and go on counting."""
    wanted, job = int(sys.argv[1]), sys.argv[2]
    chance, flows = random.Random(9), list[Flow]()
    while series() < wanted:
        name = f"flow_{len(flows)}"
        flows.append(Flow(name=name, topic=name, into=f"raw.{name}"))
        commit(flows[-1], chance)
    server, _ = start_http_server(0, addr=LOOPBACK)
    with serving_metrics(Settings.load(embedded=False).home, job):
        print(server.server_address[1], flush=True)
        while not select.select([sys.stdin], [], [], SECONDS)[0]:
            for each in flows:
                commit(each, chance)


def series() -> int:
    """That the monitor keeps of this process."""
    return sum(is_wanted(sample.name) for family in REGISTRY.collect() for sample in family.samples)


def commit(flow: Flow, chance: random.Random) -> None:
    """Count one transaction, as a flow does it."""
    records, dead = chance.randint(1, 50_000), chance.choice((0, 0, 0, 1, 500))
    done = Commit(
        rows=records, dead=dead, records=records + dead, size_bytes=127 * records, seconds=chance.uniform(0.01, 2)
    )
    measure_commit(flow, done)
    metrics.FRESHNESS_SECONDS.labels(flow.topic, flow.into).observe(chance.uniform(0, 100))
    metrics.WAITING_RECORDS.labels(flow.topic, flow.into).set(chance.randint(0, 20_000))


if __name__ == "__main__":
    main()
