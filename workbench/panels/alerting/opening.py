"""Puts the panel of alerts together."""

from __future__ import annotations

from workbench.panels.alerting.acting import AlertsActions, AlertsWatch
from workbench.panels.alerting.state import AlertsState
from workbench.panels.alerting.view import AlertsView
from workbench.panels.panel import Panel
from workbench.panels.service import Pipelines, find_pipelines
from workbench.settings import Settings


def open_panel(settings: Settings, pipelines: Pipelines | None = None) -> Panel[AlertsState]:
    """The panel; opens no connection yet.

    Args:
        settings: where the page of pipelines is.
        pipelines: the page; None is that of the settings.
    """
    page = pipelines or find_pipelines(settings)
    watch = AlertsWatch(page)
    panel = Panel(AlertsState(), watch.read, end=page.close)
    panel.show_with(AlertsView(panel, AlertsActions(page, watch)))
    return panel
