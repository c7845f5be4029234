"""kill -9 of a process that writes into a DuckDB file: nothing is lost, nothing is doubled."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from workbench.loading import Target
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects import make_warehouse

LAST, ROWS, KEYS = 60_000, 500, 1000
# Each load has rows, a dead letter and, when it merges, a tombstone; it says so after each commit.
WRITER = """
import sys
from pathlib import Path
import pyarrow as pa
from workbench.loading import DEAD_LETTERS, ORIGIN, Load, Mode, Span, Target
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects import make_warehouse

home, mode, last, size, keys = Path(sys.argv[1]), Mode(sys.argv[2]), *map(int, sys.argv[3:])
columns = pa.schema([pa.field("n", pa.int64()), pa.field("value", pa.string()), *ORIGIN])
target = Target(table="raw.rows", topic="t", mode=mode, key=("n",) if mode is Mode.MERGE else ())
settings = WarehouseSettings.model_validate({"WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}).at(home)
with make_warehouse(settings, target) as warehouse:
    warehouse.prepare(columns)
    claim = warehouse.claim("cluster", "topic", {0: 0})[0]
    for start in range(claim.next_offset, last, size):
        offsets = range(start, start + size - 1)
        numbers = [offset % keys if target.key else offset for offset in offsets]
        rows = pa.table([numbers, [str(each) for each in offsets], pa.array([0] * len(numbers), pa.int32()), pa.array(offsets)], schema=columns)
        letter = ("t", 0, start + size - 1, None, b"k", b"v", "broken", "raw.rows", None, None)
        letters = pa.Table.from_pylist([dict(zip(DEAD_LETTERS.names, letter))], schema=DEAD_LETTERS)
        deleted = pa.table({"n": pa.array([(start + size - 1) % keys], pa.int64())}) if target.key else None
        span = Span(0, start, start + size, claim.epoch)
        warehouse.commit(Load(spans=(span,), rows=rows, dead_letters=letters, deleted=deleted))
        print(start + size, flush=True)
"""


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_killed_writer_has_written_each_load_once_or_not_at_all(tmp_path, mode):
    rng, told = random.Random(23), 0
    arguments = [sys.executable, "-c", WRITER, tmp_path, mode, *map(str, (LAST, ROWS, KEYS))]
    for _ in range(5):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(rng.randint(1, 12)):
                told = int(process.stdout.readline())
            time.sleep(rng.uniform(0, 0.02))  # an instant of a commit, not always the same
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
    between = _offset(tmp_path)

    subprocess.run(arguments, stdout=subprocess.DEVNULL, timeout=120, check=True)

    assert told <= between < LAST
    assert _offset(tmp_path) == LAST
    rows, numbers, oldest, letters, several = _query(
        tmp_path,
        "SELECT count(*), count(DISTINCT n), min(_offset), (SELECT count(*) FROM raw.dead_letters), "
        "(SELECT count(DISTINCT record_offset) FROM raw.dead_letters) FROM raw.rows WHERE value = _offset::varchar",
    )[0]
    assert letters == several == LAST // ROWS
    # The last record of each key is among the last ones; two keys were deleted by the last tombstones.
    expected = (KEYS - 2, LAST - KEYS) if mode == "merge" else (LAST - LAST // ROWS, 0)
    assert (rows, oldest) == expected
    assert numbers == rows


def _query(home, query):
    settings = WarehouseSettings.model_validate({"WORKBENCH_WAREHOUSE_DIALECT": "duckdb"}).at(home)
    target = Target(table="raw.rows", topic="t")
    with make_warehouse(settings, target) as warehouse, warehouse.transaction() as connection:
        return connection.exec_driver_sql(query).all()


def _offset(home):
    return _query(home, "SELECT next_offset FROM workbench.offsets")[0][0]
