"""Who is told what of alerts: all of one rule in one message, not too often, and when it is over.

The words are those of Alertmanager: a group is told at once, what changes in it after the group's
interval, and nothing but that it goes on after the time for reminders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from workbench.observability.alerts.rules import Rule
from workbench.observability.alerts.samples import Labels
from workbench.observability.alerts.states import Alert, Alerts, Stage
from workbench.observability.notifications import Severity

MOST_SHOWN = 20
IsSilenced = Callable[[str, Labels], bool]


@dataclass(frozen=True)
class Pace:
    """How often people are told.

    Args:
        interval_seconds: between two messages of one rule, at least.
        remind_seconds: after which they are told that it still fires.
    """

    interval_seconds: float = 300.0
    remind_seconds: float = 4 * 3600.0


@dataclass(frozen=True)
class Told:
    """What was told of a rule last."""

    key: str  #: the same from the first message to the one that it is over
    number: int  #: of messages so far
    at: int  #: when, in milliseconds
    labels: tuple[Labels, ...]  #: of the alerts that fire as far as people know; none says that they know it is over
    channels: tuple[str, ...]
    severity: Severity

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> Told:
        """What `as_json` gave."""
        labels = tuple(tuple((name, value) for name, value in each) for each in fields["labels"])
        more = {"channels": tuple(fields["channels"]), "severity": Severity(fields["severity"])}
        return cls(**{**fields, "labels": labels, **more})

    def as_json(self) -> dict[str, Any]:
        """As values of JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message, to each of *channels*."""

    rule: str
    key: str
    number: int
    title: str
    body: str
    severity: Severity
    is_resolved: bool
    channels: tuple[str, ...]


def plan(
    rules: Sequence[Rule],
    alerts: Mapping[str, Alerts],
    told: Mapping[str, Told],
    *,
    is_silenced: IsSilenced,
    at: int,
    pace: Pace,
) -> tuple[list[Message], dict[str, Told]]:
    """The messages that are due, and what will have been told once they are sent.

    Args:
        rules: of the file, as it is now.
        alerts: of each rule.
        told: what people know.
        is_silenced: whether nobody is to be told that an alert fires.
        at: now, in milliseconds.
        pace: how often people are told.
    """
    messages: list[Message] = []
    after: dict[str, Told] = {}
    by_name = {rule.name: rule for rule in rules}
    for name in {**by_name, **told}:
        firing = {each.labels: each for each in alerts.get(name, {}).values() if each.stage is Stage.FIRING}
        loud = {labels: each for labels, each in firing.items() if not is_silenced(name, labels)}
        message, known = _group(name, by_name.get(name), firing, loud, told.get(name), at=at, pace=pace)
        messages += [message] if message is not None else []
        if known is not None:
            after[name] = known
    return messages, after


def _group(
    name: str, rule: Rule | None, firing: Alerts, loud: Alerts, told: Told | None, *, at: int, pace: Pace
) -> tuple[Message | None, Told | None]:
    """What is told of one rule, and what people know then."""
    if rule is None:  # not declared any more
        firing = loud = {}
    is_early = told is not None and at - told.at < pace.interval_seconds * 1000
    if told is None or not told.labels:
        if is_early:
            return None, told
        if rule is None or not loud:
            return None, None
        key = f"{name}/{min(each.fired_at for each in loud.values())}"
        known = Told(key, 1, at, tuple(loud), rule.channels, rule.severity)
        return _firing(rule, known, loud, ()), known
    # What was silenced since is not told again; that it is over is.
    still = tuple(labels for labels in told.labels if labels in firing)
    over = tuple(labels for labels in told.labels if labels not in firing)
    fresh = tuple(labels for labels in loud if labels not in told.labels)
    is_reminder = bool(loud) and at - told.at >= pace.remind_seconds * 1000
    is_news = bool(over or fresh or is_reminder)
    added = tuple(each for each in rule.channels if each not in told.channels) if rule is not None and loud else ()
    if is_early or not (is_news or added):
        return None, told
    # Whoever was told that it fires is told that it is over, also when the file names others by now.
    channels = tuple(dict.fromkeys((*told.channels, *(rule.channels if rule is not None else ()))))
    known = Told(told.key, told.number + 1, at, (*still, *fresh), channels, told.severity)
    if rule is None or not known.labels:
        return _resolved(name, rule, known), Told(**{**vars(known), "labels": ()})
    message = _firing(rule, known, firing, over, is_reminder=not (over or fresh))
    # A channel that is new hears what fires; to the others nothing was told, and their times stay.
    return (message, known) if is_news else (replace(message, channels=added), replace(known, at=told.at))


def _firing(rule: Rule, told: Told, alerts: Alerts, over: Sequence[Labels], *, is_reminder: bool = False) -> Message:
    shown = [alerts[labels] for labels in told.labels]
    count = f" ({len(shown)})" if len(shown) > 1 else ""
    still = "still " if is_reminder else ""
    lines = [f"{rule.condition.text}, {_duration(rule)}"]
    lines += [_line(rule, each) for each in shown[:MOST_SHOWN]]
    lines += [f"and {len(shown) - MOST_SHOWN} more"] if len(shown) > MOST_SHOWN else []
    lines += [f"over: {_labels(labels)}" for labels in over[:MOST_SHOWN]]
    lines += [rule.summary] if rule.summary else []
    return Message(
        rule=rule.name, key=told.key, number=told.number, title=f"{rule.name} {still}fires{count}",
        body="\n".join(lines), severity=rule.severity, is_resolved=False, channels=rule.channels,
    )  # fmt: skip


def _resolved(name: str, rule: Rule | None, told: Told) -> Message:
    body = (
        f"{rule.condition.text} does not hold any more." if rule is not None else "The alert is not declared any more."
    )
    return Message(
        rule=name, key=told.key, number=told.number, title=f"{name} is resolved", body=body,
        severity=told.severity, is_resolved=True, channels=told.channels,
    )  # fmt: skip


def _duration(rule: Rule) -> str:
    if not rule.seconds:
        return "now"
    return f"{'within' if rule.condition.is_count else 'for'} {rule.seconds} s"


def _line(rule: Rule, alert: Alert) -> str:
    since = datetime.fromtimestamp(alert.active_at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    value = rule.condition.parts[0].quantity.text_of(alert.value)
    return f"{_labels(alert.labels)}{value} since {since}"


def _labels(labels: Labels) -> str:
    return "".join(f"{name} {value}: " for name, value in labels)
