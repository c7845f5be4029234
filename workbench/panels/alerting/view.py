"""The panel of alerts as widgets, and as a picture."""

from __future__ import annotations

from workbench.panels.alerting.acting import AlertsActions
from workbench.panels.alerting.state import AlertsState, AlertState, Labels, labels_text
from workbench.panels.panel import Panel
from workbench.panels.parts import Grid, Picture, button, clock, dropdown, offer, picture_of

EVERY = "*"
DURATIONS = (("30 minutes", "30m"), ("2 hours", "2h"), ("8 hours", "8h"), ("1 day", "1d"), ("7 days", "7d"))
NO_REASON = "Write a reason first, for those who ask later."


class AlertsView:
    """Shows alerts; its buttons are functions of `AlertsActions`.

    Args:
        panel: that it belongs to.
        actions: what its buttons do.
    """

    def __init__(self, panel: Panel[AlertsState], actions: AlertsActions) -> None:
        import ipywidgets

        self._panel, self._actions = panel, actions
        self._alerts, self._rules, self._silences = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.alert = dropdown("Alert", "The alert that nobody is to be told of", "400px")
        self.duration = dropdown("Silence for", "How long nobody is told", "220px")
        offer(self.duration, DURATIONS)
        self.reason = ipywidgets.Text(
            description="Because", tooltip="Why, for those who ask later", tabbable=True,
            style={"description_width": "initial"}, layout={"width": "400px"},
        )  # fmt: skip
        self.silence = button(
            "Silence", "Have nobody told that this alert fires, for so long; that it is over is told all the same",
            self._silence,
        )  # fmt: skip
        self.one = dropdown("Silenced", "The silence that End is for", "520px")
        self.end = button("End silence", "Have people told again", self._end)
        wrap = {"flex_flow": "row wrap"}
        steer = ipywidgets.HBox([self.alert, self.duration, self.reason, self.silence], layout=wrap)
        self._over = ipywidgets.VBox([self._silences, ipywidgets.HBox([self.one, self.end], layout=wrap)])
        self.widget = ipywidgets.VBox([self._alerts, steer, self._over, self._rules])

    def show(self, state: AlertsState) -> None:
        """See `View`."""
        self._alerts.value = picture_of(*state.problems, alerts_grid(state)).html
        self._rules.value = picture_of(rules_grid(state)).html
        self._silences.value = picture_of(silences_grid(state)).html
        offer(self.alert, _choices(state))
        offer(self.one, [(f"{each.id}: {each.alert} {labels_text(each.labels)}".strip(), each.id) for each in state.silences])  # fmt: skip
        self._over.layout.display = "" if state.silences else "none"
        self.silence.disabled = not state.rules

    def picture(self, state: AlertsState) -> Picture:
        """See `View`."""
        silences = [silences_grid(state)] if state.silences else []
        return picture_of(*state.problems, alerts_grid(state), *silences, rules_grid(state))

    def _silence(self) -> None:
        duration, reason = self.duration.value, self.reason.value
        if self.alert.value is not None and not reason.strip():
            self._panel.say(NO_REASON, "alert")
            return
        self._panel.act_on(self.alert.value, "an alert", lambda alert: self._silenced(alert, duration, reason))

    def _silenced(self, alert: tuple[str, Labels], duration: str, reason: str) -> str:
        name, labels = alert
        told = self._actions.silence(name, labels, duration, reason)
        self.reason.value = ""
        return told

    def _end(self) -> None:
        self._panel.act_on(self.one.value, "a silence", self._actions.unsilence)


def alerts_grid(state: AlertsState) -> Grid:
    """Those that pend or fire, one a row."""
    return Grid(
        caption="Alerts that fire or pend",
        heads=("alert", "severity", "state", "of", "value", "since", "silenced until"),
        rows=tuple(_alert(each) for each in state.alerts),
        numbers=frozenset({4}),
        nothing="None fires or pends." if state.rules and not state.problems else "Nobody knows of any.",
    )


def rules_grid(state: AlertsState) -> Grid:
    """All alerts of the file, with what their quantities are now."""
    return Grid(
        caption="All alerts, with their values now",
        heads=("alert", "severity", "condition", "now", "channels"),
        rows=tuple(
            (each.name, each.severity, each.condition, ", ".join(each.values) or "no value", ", ".join(each.channels))
            for each in state.rules
        ),
        nothing="There are no alerts: pipelines/alerts.yaml declares none.",
    )


def silences_grid(state: AlertsState) -> Grid:
    """Who is not told of what."""
    return Grid(
        caption="Silences",
        heads=("number", "alert", "of", "until", "by", "because"),
        rows=tuple(
            (str(each.id), each.alert, labels_text(each.labels), clock(each.until), each.by, each.reason)
            for each in state.silences
        ),
        numbers=frozenset({0}),
        nothing="Nothing is silenced.",
    )


def _alert(each: AlertState) -> tuple[str, ...]:
    silenced = clock(each.silenced_until) if each.silenced_until else ""
    return each.name, each.severity, each.stage, labels_text(each.labels), each.value, clock(each.since), silenced


def _choices(state: AlertsState) -> list[tuple[str, tuple[str, Labels]]]:
    """What may be silenced: what fires or pends by itself, each alert whole, and all of them."""
    alone = [(f"{each.name} {labels_text(each.labels)}", (each.name, each.labels)) for each in state.alerts if each.labels]  # fmt: skip
    whole: list[tuple[str, tuple[str, Labels]]] = [(each.name, (each.name, ())) for each in state.rules]
    return [*alone, *whole, *([("every alert", (EVERY, ()))] if whole else [])]
