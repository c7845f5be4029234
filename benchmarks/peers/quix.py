"""Quix Streams with its PostgreSQL sink: a consumer group in Python, INSERTs of many rows."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.environment import PEERS, ensure_environment, pinned_version
from benchmarks.peers.lane import Command, Lane, Mode
from benchmarks.peers.records import Load, make_table

MOST_RECORDS = 500_000


def quix_lane(mode: Mode) -> Lane:
    """The sink without columns of its own, or with the id as the key of an upsert."""

    def prepare(load: Load, folder: Path) -> Command:
        python = ensure_environment("quix")
        make_table(load, primary_key=mode == "merge")
        file = load.write(folder / "load.json")
        return Command(argv=(str(python), str(PEERS / "quix_worker.py"), str(file), mode))

    return Lane(
        name=f"quix-{mode}",
        mode=mode,
        prepare=prepare,
        version=f"Quix Streams {pinned_version('quix', 'quixstreams')}",
        most_records=MOST_RECORDS,
    )
