"""Puts the panel of the warehouse together."""

from __future__ import annotations

from workbench.panels.panel import Panel
from workbench.panels.tables.acting import TablesWatch, WarehouseActions
from workbench.panels.tables.state import WarehouseState
from workbench.panels.tables.view import WarehouseView
from workbench.settings import Settings


def open_panel(settings: Settings) -> Panel[WarehouseState]:
    """The panel; opens no connection yet."""
    panel = Panel(WarehouseState(), TablesWatch(settings).read)
    panel.show_with(WarehouseView(panel, WarehouseActions(settings, panel.change)))
    return panel
