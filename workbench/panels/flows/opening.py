"""Puts the panel of ingestion together."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.ingestion.definition import Flow, read_flows
from workbench.panels.flows.acting import FlowActions
from workbench.panels.flows.state import IngestionState
from workbench.panels.flows.view import FlowsView
from workbench.panels.flows.watching import FlowsWatch
from workbench.panels.panel import Panel
from workbench.panels.service import Pipelines, find_pipelines
from workbench.resources import resource
from workbench.settings import Settings


def open_panel(
    settings: Settings, pipelines: Pipelines | None = None, flows: Sequence[Flow] | None = None
) -> Panel[IngestionState]:
    """The panel; opens no connection yet.

    Args:
        settings: the clusters and the warehouse.
        pipelines: what starts and stops flows; None is that of the settings.
        flows: which ones; None is all that have a file.

    Raises:
        SettingsError: naming the file of a flow that is wrong, and every field.
    """
    known = read_flows(resource("pipelines") / "flows") if flows is None else tuple(flows)
    steering = pipelines or find_pipelines(settings)
    watch = FlowsWatch(settings, known, steering)
    panel = Panel(IngestionState(), watch.read, end=watch.close)
    actions = FlowActions(settings, {each.name: each for each in known}, steering, panel.change, watch)
    panel.show_with(FlowsView(panel, actions))
    return panel
