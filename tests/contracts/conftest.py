"""The warehouses that the contract is tried on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tests.services.redshift import RedshiftDouble
from workbench.loading import Target, Warehouse
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects import CAPABILITIES, Capabilities, make_warehouse
from workbench.warehouse.dialects.redshift import RedshiftWarehouse


class World:
    """One dialect with a schema of its own."""

    def __init__(self, dialect: str, settings: WarehouseSettings, double: RedshiftDouble | None) -> None:
        self.dialect = dialect
        self.capabilities: Capabilities = CAPABILITIES[dialect]
        self.schema = f"s_{uuid4().hex}"
        self.topic = f"t-{uuid4().hex}"
        self._settings = settings
        self._double = double
        self._opened = ExitStack()

    def target(self, **changes: Any) -> Target:
        """The target of a flow."""
        return Target(**{"table": f"{self.schema}.rows", "topic": self.topic} | changes)

    def open(self, target: Target | None = None) -> Warehouse:
        """A warehouse that is closed at the end of the test."""
        return self._opened.enter_context(self.make(target or self.target()))

    def make(self, target: Target) -> Warehouse:
        """A warehouse that nobody has entered yet."""
        if self._double is not None:
            return RedshiftWarehouse(self._settings, target, driver=self._double.driver, files=self._double.files)
        return make_warehouse(self._settings, target)

    def close(self) -> None:
        """Close all warehouses."""
        self._opened.close()

    def query(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, by a warehouse of its own; `{s}` is the schema."""
        with self.make(self.target()) as warehouse, warehouse.transaction() as connection:
            found = connection.execute(sa.text(query.format(s=self.schema)))
            return [tuple(row) for row in found] if found.returns_rows else []

    def count(self, query: str) -> int:
        """The first number of a query."""
        return int(self.query(query)[0][0])


@pytest.fixture(params=sorted(CAPABILITIES))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Each dialect in turn."""
    dialect, double = request.param, None
    if dialect == "duckdb":
        chosen = WarehouseSettings.model_validate({"WORKBENCH_WAREHOUSE_DIALECT": dialect}).at(tmp_path)
    else:
        settings = request.getfixturevalue("settings")
        chosen = settings.warehouse
        if dialect == "redshift":
            double = RedshiftDouble(settings, tmp_path)
            chosen = double.settings
    world = World(dialect, chosen, double)
    yield world
    world.close()
