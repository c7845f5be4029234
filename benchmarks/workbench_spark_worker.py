"""The flow of the lane `workbench-spark-append`: `engine: spark`, on a Spark server of its own, as `workbench up` has it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pydantic import SecretStr

from benchmarks.peers.lane import ENDED
from benchmarks.peers.records import Load
from benchmarks.workbench_worker import COLUMNS
from workbench.embedded.programs import make_spark
from workbench.flows import ingest_flow
from workbench.ingestion.definition import make_flow
from workbench.runtime.supervisor import Supervisor
from workbench.settings import Settings


def main() -> None:
    """Start Spark, ingest what the topic holds, and tell when it was done."""
    load = Load.read(Path(sys.argv[1]))
    settings = Settings.load(embedded=False).model_copy(update={"kafka": load.kafka, "warehouse": load.warehouse})
    server = make_spark(
        settings, settings.home / "spark", log=settings.home / "spark.log", lock=settings.home / "run" / "spark.lock"
    )
    fields = {
        "topic": load.topic,
        "into": f"{load.schema}.{load.table}",
        "columns": COLUMNS,
        "engine": "spark",
    }
    with Supervisor(settings.home) as supervisor:
        supervisor.start((server,))
        reached = {"remote": server.address, "token": SecretStr(server.token)}
        settings = settings.model_copy(update={"spark": settings.spark.model_copy(update=reached)})
        ingest_flow(settings, make_flow("benchmark", fields), lambda _: None)
        Path(os.environ[ENDED]).write_text(str(time.monotonic()), encoding="utf-8")


if __name__ == "__main__":
    main()
