"""The panel of pipelines as widgets, and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workbench.cells.hearing import answer_anywhere
from workbench.errors import ParametersRefused
from workbench.panels.jobs.acting import PipelinesActions
from workbench.panels.jobs.form import Values, make_fields, read_values
from workbench.panels.jobs.state import PipelinesState, PipelineState, RunForm, RunState
from workbench.panels.panel import Panel
from workbench.panels.parts import DASH, Grid, Picture, button, clock, dropdown, in_words, offer, picture_of

LAST_RUNS = 5


class PipelinesView:
    """Shows pipelines; its buttons are functions of `PipelinesActions`.

    Args:
        panel: that it belongs to.
        actions: what its buttons do.
    """

    def __init__(self, panel: Panel[PipelinesState], actions: PipelinesActions) -> None:
        import ipywidgets

        self._panel, self._actions = panel, actions
        self._list, self._history, self._preview = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.pipeline = dropdown("Pipeline", "The pipeline that the form is for")
        self.choose = button("Choose", "Show its form and its runs", self._choose)
        self.fields: dict[str, Any] = {}  #: of the form, by name
        self._form: RunForm | None = None
        self._inputs = ipywidgets.VBox([])
        self.run = button("Run now", "Run it with these values", self._run, style="primary")
        self.one = dropdown("Run", "The run that Cancel and Repair are for")
        self.cancel = button("Cancel", "End this run", self._of_run(actions.cancel))
        self.repair = button("Repair", "Run again what did not succeed", self._of_run(actions.repair))
        labelled = {"style": {"description_width": "initial"}, "layout": {"width": "220px"}, "tabbable": True}
        self.since = ipywidgets.Text(
            description="From", tooltip="The first partition; empty is the first of all", **labelled
        )
        self.until = ipywidgets.Text(
            description="to", tooltip="The last one; empty is the last that is complete", **labelled
        )
        self.preview = button("Preview", "What a backfill would run", self._preview_range)
        self.backfill = button(
            "Backfill", "Run each partition that has not succeeded, with the values above", self._backfill
        )
        wrap = {"flex_flow": "row wrap"}
        self._backfills = ipywidgets.HBox([self.since, self.until, self.preview, self.backfill], layout=wrap)
        self._chosen = ipywidgets.VBox(
            [
                self._inputs,
                ipywidgets.HBox([self.run]),
                self._history,
                ipywidgets.HBox([self.one, self.cancel, self.repair], layout=wrap),
                self._backfills,
                self._preview,
            ]
        )
        row = ipywidgets.HBox([self.pipeline, self.choose], layout=wrap)
        self.widget = ipywidgets.VBox([self._list, row, self._chosen])

    def show(self, state: PipelinesState) -> None:
        """See `View`."""
        self._list.value = picture_of(pipelines_grid(state), *state.problems).html
        offer(self.pipeline, [each.name for each in state.pipelines])
        self.choose.disabled = not state.pipelines
        self._chosen.layout.display = "none" if state.form is None else ""
        if state.form is not self._form:
            self._show_form(state.form)
        self._history.value = picture_of(runs_grid(state)).html if state.form else ""
        offer(self.one, [(f"{each.id}: {each.state}", each.id) for each in state.runs])
        self.cancel.disabled = self.repair.disabled = not state.runs
        self._preview.value = picture_of(preview_grid(state)).html if state.preview else ""

    def picture(self, state: PipelinesState) -> Picture:
        """See `View`."""
        runs = [runs_grid(state)] if state.form else []
        return picture_of(pipelines_grid(state), *runs, *state.problems)

    def _show_form(self, form: RunForm | None) -> None:
        for each in self.fields.values():
            each.close()
        self._form, self.fields = form, make_fields(form) if form else {}
        for each in self.fields.values():
            answer_anywhere(each)
        self._inputs.children = tuple(self.fields.values())
        self._backfills.layout.display = "" if form and form.partitions else "none"

    def _choose(self) -> None:
        self._panel.act_on(self.pipeline.value, "a pipeline", self._actions.choose)

    def _run(self) -> None:
        form = self._form
        if form is None:
            return
        values = self._read(form, self.fields)
        if values is not None:
            self._panel.act(lambda: self._actions.run(form.pipeline, values))

    def _read(self, form: RunForm, fields: Mapping[str, Any]) -> Values | None:
        """What was typed into these fields; None when something is no value, which is told."""
        try:
            return read_values(form, fields)
        except ParametersRefused as error:
            self._panel.say(in_words(error), "alert")
            return None

    def _of_run(self, action: Callable[[int], str]) -> Callable[[], None]:
        return lambda: self._panel.act_on(self.one.value, "a run", action)

    def _preview_range(self) -> None:
        if self._form is not None:
            given = self._form.pipeline, self.since.value, self.until.value
            self._panel.act(lambda: self._actions.preview(*given))

    def _backfill(self) -> None:
        form = self._form
        if form is None or form.partitions is None:
            return
        # That of the partition has another value in each run.
        fields = {name: each for name, each in self.fields.items() if name != form.partitions["parameter"]}
        values = self._read(form, fields)
        if values is not None:
            given = form.pipeline, self.since.value, self.until.value, values
            self._panel.act(lambda: self._actions.backfill(*given))


def pipelines_grid(state: PipelinesState) -> Grid:
    """All pipelines."""
    return Grid(
        caption="Pipelines",
        heads=("pipeline", "owner", "next run", "last runs, the newest first"),
        rows=tuple(_pipeline(each) for each in state.pipelines),
        nothing="There are no pipelines: pipelines/jobs/ has no file.",
    )


def runs_grid(state: PipelinesState) -> Grid:
    """The runs of the pipeline that was chosen."""
    name = state.form.pipeline if state.form else ""
    return Grid(
        caption=f"Runs of {name}",
        heads=("run", "state", "steps", "trigger", "by", "began", "ended"),
        rows=tuple(_run(each) for each in state.runs),
        numbers=frozenset({0}),
        nothing="It has never run.",
    )


def preview_grid(state: PipelinesState) -> Grid:
    """What a backfill would run."""
    return Grid(caption="Backfill", heads=("partition", "how it stands"), rows=state.preview)


def _pipeline(each: PipelineState) -> tuple[str, ...]:
    due = "paused" if each.paused else clock(each.next_at)
    return each.name, each.owner or DASH, due, ", ".join(each.last[:LAST_RUNS]) or "never run"


def _run(each: RunState) -> tuple[str, ...]:
    steps = ", ".join(f"{name} {state}" for name, state in each.steps)
    return str(each.id), each.state, steps, each.trigger, each.requested_by, clock(each.began), clock(each.ended)
