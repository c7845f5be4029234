"""Flows that begin at once on a warehouse that has never seen one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pyarrow as pa
import pytest

from tests.services.postgres_server import running_postgres
from workbench.loading import Target
from workbench.settings import Settings
from workbench.warehouse.dialects import make_warehouse

FLOWS = 8
ROUNDS = 5
ROWS = pa.schema([("n", pa.int64()), ("_partition", pa.int32()), ("_offset", pa.int64())])


def test_the_first_flows_of_a_warehouse_begin_at_once(tmp_path, monkeypatch: pytest.MonkeyPatch):
    with running_postgres(tmp_path / "home") as postgres, ThreadPoolExecutor(FLOWS) as pool:
        for name, value in postgres.variables().items():
            monkeypatch.setenv(name, value)
        settings = Settings.load().warehouse
        for _ in range(ROUNDS):
            postgres.ask("DROP SCHEMA IF EXISTS workbench, raw CASCADE")
            together = threading.Barrier(FLOWS)

            def prepare(number: int, together: threading.Barrier = together) -> pa.Schema:
                target = Target(table=f"raw.t_{uuid4().hex}", topic=f"t-{number}")
                with make_warehouse(settings, target) as warehouse:
                    together.wait(30)
                    return warehouse.prepare(ROWS)

            assert [found.names for found in pool.map(prepare, range(FLOWS))] == [ROWS.names] * FLOWS
