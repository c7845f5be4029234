"""One module for each kind of warehouse; all keep the protocol `workbench.loading.Warehouse`."""

from __future__ import annotations

from workbench.loading import Target, Warehouse
from workbench.sections import WarehouseSettings


def make_warehouse(settings: WarehouseSettings, target: Target) -> Warehouse:
    """The warehouse that the settings name; opens no connection yet."""
    from workbench.warehouse.dialects.postgresql import PostgresqlWarehouse

    return PostgresqlWarehouse(settings, target)
