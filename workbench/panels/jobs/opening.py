"""Puts the panel of pipelines together."""

from __future__ import annotations

from workbench.panels.jobs.acting import PipelinesActions, PipelinesWatch
from workbench.panels.jobs.state import PipelinesState
from workbench.panels.jobs.view import PipelinesView
from workbench.panels.panel import Panel
from workbench.panels.service import Pipelines, find_pipelines
from workbench.settings import Settings


def open_panel(settings: Settings, pipelines: Pipelines | None = None) -> Panel[PipelinesState]:
    """The panel; opens no connection yet.

    Args:
        settings: where the page of pipelines is.
        pipelines: the page; None is that of the settings.
    """
    page = pipelines or find_pipelines(settings)
    watch = PipelinesWatch(page)
    panel = Panel(PipelinesState(), watch.read, end=page.close)
    panel.show_with(PipelinesView(panel, PipelinesActions(page, panel.change, watch)))
    return panel
