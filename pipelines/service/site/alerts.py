"""Alerts on metrics as the API shows them: the file of the project, and what the monitor of this machine has kept."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from pipelines.service.site.site import Site
from workbench.observability.alerts.quantities import QUANTITIES
from workbench.observability.alerts.rules import Rule, load_rules
from workbench.observability.alerts.samples import labels_of
from workbench.observability.alerts.states import Alert
from workbench.observability.monitor.database import Level, Silence
from workbench.observability.monitor.standing import (
    EVERY,
    SilenceWish,
    Standing,
    end_silence,
    make_silence,
    read_standing,
)

Row = dict[str, Any]


def alerts(site: Site) -> Row:
    """All alerts of the file with the values of now, those that pend or fire, and silences.

    Raises:
        AlertsRefused: when the file is wrong.
        MonitorError: when what the monitor keeps cannot be read.
    """
    found = read_standing(site.home, load_rules(site.project.alerts))
    return {
        "evaluated": _time(found.evaluated) if found.evaluated else None,
        "is_watched": found.is_watched,
        "rules": [{**_rule(each.rule), "values": [_level(one) for one in each.levels]} for each in found.rules],
        "alerts": [_alert(found, each.rule, one) for each in found.rules for one in each.alerts],
        "silences": [_silence(each) for each in found.silences],
    }


def silence(
    site: Site, by: str, *, alert: str, duration: str, reason: str, labels: dict[str, str] | None = None
) -> Row:
    """As `standing.make_silence`, in the name of *by*."""
    wish = SilenceWish(alert=alert, duration=duration, reason=reason, labels=labels_of(labels or {}))
    made = make_silence(site.home, load_rules(site.project.alerts), wish, by)
    return {"silence": made.id, "alert": alert, "until": _time(made.until)}


def unsilence(site: Site, by: str, *, silence: int) -> Row:
    """As `standing.end_silence`."""
    end_silence(site.home, silence)
    return {"silence": silence}


def _rule(rule: Rule) -> Row:
    return {
        "name": rule.name, "severity": str(rule.severity), "condition": rule.condition.text, "seconds": rule.seconds,
        "is_count": rule.condition.is_count, "channels": list(rule.channels), "summary": rule.summary,
    }  # fmt: skip


def _level(level: Level) -> Row:
    text = QUANTITIES[level.quantity].text_of(level.value) if level.quantity in QUANTITIES else str(level.value)
    return {"quantity": level.quantity, "labels": dict(level.labels), "value": _number(level.value), "text": text}


def _alert(found: Standing, rule: Rule, alert: Alert) -> Row:
    covering = found.silence_of(rule.name, alert.labels)
    return {
        "name": rule.name, "severity": str(rule.severity), "state": str(alert.stage), "labels": dict(alert.labels),
        "value": _number(alert.value), "text": rule.condition.parts[0].quantity.text_of(alert.value),
        "since": _time(alert.active_at / 1000), "silenced_until": _time(covering.until) if covering else None,
    }  # fmt: skip


def _silence(silence: Silence) -> Row:
    return {
        "silence": silence.id, "alert": silence.rule or EVERY, "labels": dict(silence.labels),
        "until": _time(silence.until), "by": silence.made_by, "reason": silence.reason,
    }  # fmt: skip


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no other


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
