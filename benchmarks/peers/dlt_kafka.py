"""dlt from Kafka into PostgreSQL, read as its verified source does: batches of 3,000 from confluent-kafka."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.environment import PEERS, ensure_environment, pinned_version
from benchmarks.peers.lane import Command, Lane
from benchmarks.peers.records import Load

MOST_RECORDS = 500_000


def dlt_lane() -> Lane:
    """One run of a pipeline: dlt reads all, normalizes all, loads all. It makes its table itself."""

    def prepare(load: Load, folder: Path) -> Command:
        python = ensure_environment("dlt")
        file = load.write(folder / "load.json")
        return Command(
            argv=(str(python), str(PEERS / "dlt_worker.py"), str(file)),
            environment={
                "RUNTIME__DLTHUB_TELEMETRY": "false",
                "DLT_DATA_DIR": str(folder / "dlt"),
                # One worker of each for a core: normalizing has processes, loading has threads.
                "NORMALIZE__WORKERS": "2",
                "LOAD__WORKERS": "2",
                # A file for each worker needs files that end before the last row.
                "DATA_WRITER__FILE_MAX_ITEMS": str(load.records // 4),
            },
        )

    return Lane(
        name="dlt-append",
        mode="append",
        prepare=prepare,
        version=f"dlt {pinned_version('dlt', 'dlt')}",
        most_records=MOST_RECORDS,
        streams=False,
    )
