"""The flow of the workbench's lanes: what `workbench ingest run` does, on the records of the benchmark."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from benchmarks.peers.lane import ENDED
from benchmarks.peers.records import Load
from workbench.flows import ingest_flow
from workbench.ingestion.definition import make_flow
from workbench.settings import Settings

COLUMNS = {
    "id": "int64",
    "account": "int32",
    "kind": "string",
    "amount": "float64",
    "at": "timestamp",
    "note": "string",
}


def main() -> None:
    """Ingest what the topic holds, and tell when it was done."""
    load, mode = Load.read(Path(sys.argv[1])), sys.argv[2]
    fields = {"topic": load.topic, "into": f"{load.schema}.{load.table}", "columns": COLUMNS, "mode": mode}
    if mode == "merge":
        fields["key"] = ["id"]
    settings = Settings.load(embedded=False).model_copy(update={"kafka": load.kafka, "warehouse": load.warehouse})
    ingest_flow(settings, make_flow("benchmark", fields), lambda _: None)
    Path(os.environ[ENDED]).write_text(str(time.monotonic()), encoding="utf-8")


if __name__ == "__main__":
    main()
