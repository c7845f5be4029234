"""The panel of Spark as widgets, and as a picture."""

from __future__ import annotations

from html import escape

from workbench.cells.progress_view import progress_html
from workbench.panels.operations.acting import SparkActions
from workbench.panels.operations.state import SparkState
from workbench.panels.panel import Panel
from workbench.panels.parts import Grid, Picture, button, clock, count, dropdown, offer, picture_of
from workbench.transformation.progress import Operation

HEADS = ("operation", "outcome", "began", "seconds", "tasks", "rows", "error")


class SparkView:
    """Shows operations; its buttons are functions of `SparkActions`.

    Args:
        panel: that it belongs to.
        actions: what its buttons do.
        ui_path: of the Spark UI; empty is none.
    """

    def __init__(self, panel: Panel[SparkState], actions: SparkActions, ui_path: str = "") -> None:
        import ipywidgets

        self._panel, self._actions = panel, actions
        self._facts, self._bars, self._table = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.operation = dropdown("Running", "The operation that Cancel is for", "520px")
        self.cancel = button("Cancel", "Cancel this operation", self._cancel)
        self.cancel_all = button(
            "Cancel all",
            "Cancel all operations of this kernel",
            lambda: panel.act(actions.cancel_all),
        )
        self.restart = button(
            "Restart Spark", "End your Spark server, so that another is started; what runs is lost",
            lambda: panel.act(actions.restart), style="warning",
        )  # fmt: skip
        controls = [self.operation, self.cancel, self.cancel_all, self.restart]
        if ui_path:
            link = f'<a href="{escape(ui_path)}" target="_blank" rel="noopener" style="text-decoration:underline">Spark UI</a>'
            controls.append(ipywidgets.HTML(link))
        row = ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([self._facts, row, self._bars, self._table])

    def show(self, state: SparkState) -> None:
        """See `View`."""
        self._facts.value = picture_of(facts_grid(state)).html
        self._bars.value = progress_html(state.running) if state.running else ""
        self._table.value = picture_of(operations_grid(state)).html
        # Between two operations there is none: the next is the first again.
        running = [(each.what or each.id, each.id) for each in state.running]
        offer(self.operation, running, anew=not self.operation.options)
        self.cancel.disabled = self.cancel_all.disabled = not state.running

    def picture(self, state: SparkState) -> Picture:
        """See `View`."""
        return picture_of(facts_grid(state), operations_grid(state))

    def _cancel(self) -> None:
        self._panel.act_on(self.operation.value, "an operation", self._actions.cancel)


def facts_grid(state: SparkState) -> Grid:
    """Where Spark runs."""
    return Grid(caption="Spark", heads=tuple(name for name, _ in state.facts), rows=(tuple(v for _, v in state.facts),))


def operations_grid(state: SparkState) -> Grid:
    """What it has done for this kernel."""
    return Grid(
        caption="Operations of this kernel",
        heads=HEADS,
        rows=tuple(_row(each) for each in state.operations),
        numbers=frozenset({3, 4, 5}),
        nothing="Spark has done nothing for this kernel yet.",
    )


def _row(each: Operation) -> tuple[str, ...]:
    return (
        *(each.what or each.id, each.outcome.value, clock(each.started), f"{each.seconds:,.1f}"),
        *(f"{each.tasks_done} of {each.tasks}", count(each.rows), each.error),
    )
