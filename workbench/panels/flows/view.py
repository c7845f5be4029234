"""The panel of ingestion as widgets, and as a picture."""

from __future__ import annotations

from typing import Any

from workbench.panels.flows.acting import FlowActions
from workbench.panels.flows.state import FlowState, IngestionState
from workbench.panels.panel import Panel
from workbench.panels.parts import DASH, Grid, Picture, button, clock, count, dropdown, offer, picture_of
from workbench.warehouse.letters.looking import Letter

HEADS = ("flow", "topic", "table", "state", "since", "behind", "records/s", "last commit", "dead letters", "last end")
NOTHING = "There are no flows: pipelines/flows/ has no file."
LONGEST_VALUE = 4000  # characters of a record


class FlowsView:
    """Shows flows; its buttons are functions of `FlowActions`.

    Args:
        panel: that it belongs to.
        actions: what its buttons do.
    """

    def __init__(self, panel: Panel[IngestionState], actions: FlowActions) -> None:
        import ipywidgets

        self._panel, self._actions = panel, actions
        self._table, self._letter = ipywidgets.HTML(), ipywidgets.HTML()
        self.flow = dropdown("Flow", "The flow that the buttons are for")
        self.letter = dropdown("Dead letter", "Partition and offset of the record, and why it did not fit", "640px")
        self.letter.observe(lambda _: self._show_letter(), "value")
        self.start = button("Start", "Let workers keep this flow running", self._do(actions.start))
        self.stop = button("Stop", "Let nobody run this flow any more", self._do(actions.stop))
        self.restart = button("Restart", "End its process and start another", self._do(actions.restart))
        self.show_letters = button(
            "Show dead letters", "Read the records of this flow that did not fit; the audit log keeps that",
            self._do(actions.show_letters),
        )  # fmt: skip
        self.replay_all = button(
            "Replay all", "Decode all dead letters of this flow again, and move what fits into its table",
            self._do(actions.replay),
        )  # fmt: skip
        self.replay_one = button(
            "Replay this one", "Decode this dead letter again, and move it into the table if it fits",
            self._replay_one,
        )  # fmt: skip
        steer = [self.flow, self.start, self.stop, self.restart, self.show_letters, self.replay_all]
        self._letters = ipywidgets.VBox([ipywidgets.HBox([self.letter, self.replay_one]), self._letter])
        row = ipywidgets.HBox(steer, layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([self._table, row, self._letters])

    def show(self, state: IngestionState) -> None:
        """See `View`."""
        html = picture_of(flows_grid(state), *state.problems).html
        if html != self._table.value:
            self._table.value = html
        offer(self.flow, [each.name for each in state.flows])
        offer(self.letter, [(_title(each), (each.partition, each.offset)) for each in state.letters])
        self._letters.layout.display = "" if state.letters else "none"
        nobody = not state.flows
        for each in (self.start, self.stop, self.restart, self.show_letters, self.replay_all):
            each.disabled = nobody
        self._show_letter(state)

    def picture(self, state: IngestionState) -> Picture:
        """See `View`."""
        return picture_of(flows_grid(state), *state.problems)

    def _show_letter(self, state: IngestionState | None = None) -> None:
        found = (state or self._panel.state).letter(self.letter.value)
        self._letter.value = "" if found is None else picture_of(letter_grid(found)).html

    def _do(self, action: Any) -> Any:
        return lambda: self._panel.act_on(self.flow.value, "a flow", action)

    def _replay_one(self) -> None:
        name = self._panel.state.letters_of
        self._panel.act_on(self.letter.value, "a dead letter", lambda at: self._actions.replay(name, at))


def flows_grid(state: IngestionState) -> Grid:
    """All flows, one a row."""
    return Grid(
        caption="Flows",
        heads=HEADS,
        rows=tuple(_row(each) for each in state.flows),
        numbers=frozenset({5, 6, 7, 8}),
        nothing=NOTHING,
    )


def letter_grid(letter: Letter) -> Grid:
    """One dead letter, whole."""
    fields = {
        "place": f"partition {letter.partition}, offset {letter.offset}",
        "time": clock(letter.timestamp),
        "reason": letter.reason,
        "key": _text(letter.key),
        "value": _text(letter.value),
    }
    return Grid(caption="Dead letter", heads=("field", "content"), rows=tuple(fields.items()), longest=LONGEST_VALUE)


def _row(flow: FlowState) -> tuple[str, ...]:
    return (
        *(flow.name, flow.topic, flow.table, flow.state or DASH, clock(flow.since)),
        *(
            count(flow.behind),
            count(flow.rate),
            count(flow.commit_age_seconds, " s ago"),
            count(flow.dead),
            flow.reason,
        ),
    )


def _title(letter: Letter) -> str:
    reason = letter.reason if len(letter.reason) <= 80 else f"{letter.reason[:79]}…"
    return f"{letter.partition}:{letter.offset}: {reason}"


def _text(value: bytes | None) -> str:
    return "null" if value is None else value.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
