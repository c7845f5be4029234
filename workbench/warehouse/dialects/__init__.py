"""One module for each kind of warehouse; all keep the protocol `workbench.loading.Warehouse`."""

from __future__ import annotations

from workbench.loading import Target, Warehouse
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects.capabilities import CAPABILITIES, Capabilities

__all__ = ["CAPABILITIES", "Capabilities", "make_warehouse"]


def make_warehouse(settings: WarehouseSettings, target: Target) -> Warehouse:
    """The warehouse that the settings name; opens no connection yet."""
    if settings.dialect == "duckdb":
        from workbench.warehouse.dialects.duckdb import DuckdbWarehouse

        return DuckdbWarehouse(settings, target)
    if settings.dialect == "redshift":
        from workbench.warehouse.dialects.redshift import RedshiftWarehouse

        return RedshiftWarehouse(settings, target)
    from workbench.warehouse.dialects.postgresql import PostgresqlWarehouse

    return PostgresqlWarehouse(settings, target)
