"""What the panel of alerts reads and does: operations of the page of pipelines, the same that `workbench alerts` does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from workbench.panels.alerting.state import AlertsState, AlertState, Labels, RuleState, SilenceState
from workbench.panels.parts import clock
from workbench.panels.service import Pipelines, Row
from workbench.panels.sometimes import Sometimes
from workbench.security.audit import Action
from workbench.security.audit.commands import audits_itself

READ_SECONDS = 5.0  #: between two readings: a monitor looks every 15
SHOWN_VALUES = 3  #: of an alert, the worst
NEVER = (
    "No monitor has evaluated the alerts yet: nobody watches. `workbench up` starts one; `workbench status` shows it."
)
NOT_NOW = "No monitor runs: this is of {}, and nobody is told of anything. `workbench up` starts one."


class AlertsWatch:
    """How alerts stand.

    Args:
        pipelines: the page that knows them.
    """

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        self._answer = Sometimes(self._read, READ_SECONDS, AlertsState())

    def read(self) -> dict[str, Any]:
        """Fields of `AlertsState`; what could not be read is told among the problems."""
        problems: list[str] = []
        found: AlertsState = self._answer.get(problems)
        return {**vars(found), "problems": (*problems, *found.problems)}

    def forget(self) -> None:
        """Read all of it the next time: somebody has changed something."""
        self._answer.forget()

    def _read(self) -> AlertsState:
        found = self._pipelines.ask("list_alerts")
        return AlertsState(
            # Those that fire first.
            alerts=tuple(sorted(map(_alert, found["alerts"]), key=lambda each: (each.stage != "firing", each.name))),
            rules=tuple(map(_rule, found["rules"])),
            silences=tuple(map(_silence, found["silences"])),
            problems=_unwatched(found),
        )


class AlertsActions:
    """Each returns a sentence that says what was done, and raises a WorkbenchError when it was not.

    Args:
        pipelines: the page; it asks for rights, and records.
        watch: reads anew what was changed.
    """

    def __init__(self, pipelines: Pipelines, watch: AlertsWatch) -> None:
        self._pipelines, self._watch = pipelines, watch

    @audits_itself(Action.ALERT_SILENCED)
    def silence(self, alert: str, labels: Labels, duration: str, reason: str) -> str:
        """Have nobody told that an alert fires, for a while."""
        wanted = {"labels": dict(labels)} if labels else {}
        made = self._pipelines.ask("silence_alert", alert=alert, duration=duration, reason=reason.strip(), **wanted)
        self._watch.forget()
        named = "every alert" if alert == "*" else alert
        return f"Silence {made['silence']}: nobody is told that {named} fires until {clock(_time(made['until']))}."

    @audits_itself(Action.ALERT_UNSILENCED)
    def unsilence(self, silence: int) -> str:
        """End a silence."""
        self._pipelines.ask("unsilence_alert", silence=silence)
        self._watch.forget()
        return f"Silence {silence} is over."


def _unwatched(found: Row) -> tuple[str, ...]:
    if found["is_watched"]:
        return ()
    return (NOT_NOW.format(clock(_time(found["evaluated"]))) if found["evaluated"] else NEVER,)


def _alert(row: Row) -> AlertState:
    return AlertState(
        name=str(row["name"]), severity=str(row["severity"]), stage=str(row["state"]), labels=_labels(row["labels"]),
        value=str(row["text"]), since=_time(row["since"]), silenced_until=_time(row["silenced_until"]),
    )  # fmt: skip


def _rule(row: Row) -> RuleState:
    return RuleState(
        name=str(row["name"]),
        severity=str(row["severity"]),
        condition=str(row["condition"]) + _duration(row),
        values=_values(row["values"]),
        channels=tuple(map(str, row["channels"])),
    )


def _duration(row: Row) -> str:
    seconds = int(row["seconds"])
    if not seconds:
        return ""
    size, unit = next((size, unit) for size, unit in ((3600, "h"), (60, "m"), (1, "s")) if seconds % size == 0)
    return f" {'within' if row['is_count'] else 'for'} {seconds // size}{unit}"


def _values(rows: list[Row]) -> tuple[str, ...]:
    """The worst of each quantity."""
    by_quantity: dict[str, list[Row]] = {}
    for each in rows:
        by_quantity.setdefault(str(each["quantity"]), []).append(each)
    return tuple(
        " ".join(filter(None, [name if len(by_quantity) > 1 else "", *each["labels"].values(), str(each["text"])]))
        for name, found in by_quantity.items()
        for each in found[:SHOWN_VALUES]
    )


def _silence(row: Row) -> SilenceState:
    return SilenceState(
        id=int(row["silence"]), alert=str(row["alert"]), labels=_labels(row["labels"]), until=_time(row["until"]),
        by=str(row["by"]), reason=str(row["reason"]),
    )  # fmt: skip


def _labels(labels: Mapping[str, Any]) -> Labels:
    return tuple((str(name), str(value)) for name, value in labels.items())


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
