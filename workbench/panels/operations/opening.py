"""Puts the panel of Spark together."""

from __future__ import annotations

from workbench.panels.operations.acting import SparkActions
from workbench.panels.operations.state import SparkState
from workbench.panels.operations.view import SparkView
from workbench.panels.panel import Panel
from workbench.settings import Settings
from workbench.transformation.progress import RECORDER


def open_panel(settings: Settings) -> Panel[SparkState]:
    """The panel; it starts no session."""
    actions = SparkActions(settings.spark, RECORDER)
    panel = Panel(SparkState(), actions.read)
    panel.show_with(SparkView(panel, actions, settings.spark.ui_path))
    return panel
