"""How an alert goes from pending to firing to resolved, instant for instant as in Prometheus.

Source: prometheus/prometheus, rules/alerting.go (`AlertingRule.Eval`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from workbench.observability.alerts.expressions import Moment
from workbench.observability.alerts.rules import Rule
from workbench.observability.alerts.samples import Labels, Vector

RETENTION_MS = 900_000  #: how long a resolved alert is remembered
MOST_OUTAGE_MS = 3_600_000  #: after a longer one nobody knows what has been: what was pending begins anew


class Stage(StrEnum):
    """Where an alert is."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Alert:
    """One alert of a rule: of one set of labels. Times are in milliseconds since 1970."""

    labels: Labels
    stage: Stage
    value: float
    active_at: int  #: since when its condition holds
    fired_at: int = 0
    resolved_at: int = 0
    kept_since: int = 0  #: since when only `keep_firing` keeps it firing

    def moved(self, milliseconds: int) -> Alert:
        """The same, by a clock that was set."""
        times = {
            name: at + milliseconds
            for name in ("active_at", "fired_at", "resolved_at", "kept_since")
            if (at := getattr(self, name))
        }
        return replace(self, **times)


Alerts = Mapping[Labels, Alert]


def evaluate(rule: Rule, before: Alerts, moment: Moment) -> dict[Labels, Alert]:
    """The alerts of a rule at an instant, from those at the last one."""
    return advance(rule, before, rule.condition.holds(moment, rule.seconds), moment.at)


def advance(rule: Rule, before: Alerts, holding: Vector, at: int) -> dict[Labels, Alert]:
    """The same, with the labels and values for which the condition holds."""
    active = dict(before)
    for labels, value in holding.items():
        known = active.get(labels)
        if known is not None and known.stage is not Stage.RESOLVED:
            active[labels] = replace(known, value=value, kept_since=0)
        else:
            active[labels] = Alert(labels, Stage.PENDING, value, at)
    after: dict[Labels, Alert] = {}
    for labels, alert in active.items():
        moved = alert if labels in holding else _without(rule, alert, at)
        if moved is not None:
            after[labels] = _fired(rule, moved, at)
    return after


def _without(rule: Rule, alert: Alert, at: int) -> Alert | None:
    """What becomes of an alert whose condition does not hold; None when it is forgotten."""
    if alert.stage is Stage.PENDING:
        return None
    if alert.stage is Stage.RESOLVED:
        return None if at - alert.resolved_at > RETENTION_MS else alert
    since = alert.kept_since or at
    if at - since < rule.keep_firing_seconds * 1000:
        return replace(alert, kept_since=since)
    return replace(alert, stage=Stage.RESOLVED, resolved_at=at, kept_since=0)


def _fired(rule: Rule, alert: Alert, at: int) -> Alert:
    if alert.stage is Stage.PENDING and at - alert.active_at >= rule.for_seconds * 1000:
        return replace(alert, stage=Stage.FIRING, fired_at=at)
    return alert


def resumed(alerts: Iterable[Alert], last: int, now: int) -> dict[Labels, Alert]:
    """The alerts of a rule after nobody has evaluated it for a while.

    What was pending has held for as long as before: time in which nobody looked does not count.
    Prometheus does the same for a `for` of ten minutes or more, and lets shorter ones begin anew.

    Args:
        alerts: as they were.
        last: when they were evaluated last.
        now: when they are to be evaluated again.
    """
    outage = now - last
    kept = (each for each in alerts if each.stage is not Stage.PENDING or outage < MOST_OUTAGE_MS)
    return {
        each.labels: replace(each, active_at=each.active_at + outage) if each.stage is Stage.PENDING else each
        for each in kept
    }
