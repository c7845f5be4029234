"""Control panels for notebooks: what runs, how it stands, and the buttons for it.

>>> from workbench import panels
>>> panels.ingestion()

Each function returns a panel, which JupyterLab shows below its cell and keeps up to date until it is closed, or
the kernel ends, or the same panel is opened again. Where nobody looks on, as under papermill, it is a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.panels.alerting.state import AlertsState
    from workbench.panels.flows.state import IngestionState
    from workbench.panels.jobs.state import PipelinesState
    from workbench.panels.operations.state import SparkState
    from workbench.panels.panel import Panel
    from workbench.panels.tables.state import WarehouseState

__all__ = ["alerts", "ingestion", "pipelines", "spark", "warehouse"]

_open: dict[str, Panel[Any]] = {}


def alerts() -> Panel[AlertsState]:
    """Alerts on metrics: which fire or pend, what the others are at, and silences: make one, end one.

    Raises:
        SettingsError: when a setting is wrong.
    """
    from workbench.panels.alerting.opening import open_panel
    from workbench.settings import Settings

    return _opened("alerts", open_panel(Settings.load()))


def ingestion() -> Panel[IngestionState]:
    """Flows: how they stand and how far they are behind, with Start, Stop and Restart; their dead letters, with Replay.

    Raises:
        SettingsError: when a setting or the file of a flow is wrong.
    """
    from workbench.panels.flows.opening import open_panel
    from workbench.settings import Settings

    return _opened("ingestion", open_panel(Settings.load()))


def warehouse() -> Panel[WarehouseState]:
    """Tables with their columns, some rows, how many there are, how fresh and how good; a query with a chart.

    Raises:
        SettingsError: when a setting is wrong.
    """
    from workbench.panels.tables.opening import open_panel
    from workbench.settings import Settings

    return _opened("warehouse", open_panel(Settings.load()))


def pipelines() -> Panel[PipelinesState]:
    """Pipelines with their last runs; a form to run one, Cancel, Repair, and backfills.

    Raises:
        SettingsError: when a setting is wrong.
    """
    from workbench.panels.jobs.opening import open_panel
    from workbench.settings import Settings

    return _opened("pipelines", open_panel(Settings.load()))


def spark() -> Panel[SparkState]:
    """Where Spark runs, and what it does for this kernel, with Cancel and Restart.

    Raises:
        SettingsError: when a setting is wrong.
    """
    from workbench.panels.operations.opening import open_panel
    from workbench.settings import Settings

    return _opened("spark", open_panel(Settings.load()))


def _opened(name: str, panel: Panel[Any]) -> Panel[Any]:
    """*panel*, instead of the one of that name that is open: nobody would close it."""
    before = _open.pop(name, None)
    if before is not None:
        before.close()
    _open[name] = panel
    return panel
