"""How alerts on metrics stand, and who is not to be told: what commands and the service of pipelines do, by one function each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from workbench.durations import parse_duration
from workbench.errors import WorkbenchError
from workbench.observability.alerts.rules import Rule
from workbench.observability.alerts.samples import Labels
from workbench.observability.alerts.states import Alert, Stage
from workbench.observability.monitor.database import Level, MonitorDatabase, Silence

EVERY = "*"  #: in the place of an alert's name
LONGEST = timedelta(days=30)  #: that a silence lasts
STALE_SECONDS = 120.0  #: after which nobody evaluates them any more


@dataclass(frozen=True, kw_only=True)
class RuleStanding:
    """One alert of the file as it stands."""

    rule: Rule
    alerts: tuple[Alert, ...]  #: that pend or fire
    levels: tuple[Level, ...]  #: of its quantities, when they were evaluated last


@dataclass(frozen=True, kw_only=True)
class Standing:
    """All alerts of the file, and the silences that are not over."""

    rules: tuple[RuleStanding, ...]
    silences: tuple[Silence, ...]
    evaluated: float  #: seconds since 1970; 0 is never

    @property
    def is_watched(self) -> bool:
        """Whether a monitor has evaluated them in the last minutes."""
        return time.time() - self.evaluated <= STALE_SECONDS

    def silence_of(self, rule: str, labels: Labels) -> Silence | None:
        """The silence for which nobody is told of an alert; of several the one that lasts longest."""
        covering = (each for each in self.silences if each.covers(rule, labels))
        return max(covering, key=lambda each: each.until, default=None)


@dataclass(frozen=True, kw_only=True)
class SilenceWish:
    """A silence that somebody wants.

    Args:
        alert: its name; `*` is every one.
        duration: such as 30m, 1h30m or 2d; at most 30 days.
        reason: for those who ask later.
        labels: that an alert has to have.
    """

    alert: str
    duration: str
    reason: str
    labels: Labels = ()


def read_standing(home: Path, rules: Sequence[Rule]) -> Standing:
    """How *rules* stand by what the monitor of this WORKBENCH_HOME has kept.

    Raises:
        MonitorError: when its file cannot be opened.
    """
    with MonitorDatabase.of(home) as database:
        alerts, levels = database.read_alerts(), database.read_levels()
        silences, evaluated = tuple(database.silences()), database.evaluated() / 1000
    found = (
        RuleStanding(
            rule=each,
            alerts=tuple(one for one in alerts.get(each.name, ()) if one.stage is not Stage.RESOLVED),
            levels=tuple(levels.get(each.name, ())),
        )
        for each in rules
    )
    return Standing(rules=tuple(found), silences=silences, evaluated=evaluated)


def make_silence(home: Path, rules: Sequence[Rule], wish: SilenceWish, by: str) -> Silence:
    """Have nobody told that an alert fires, for a while.

    Raises:
        WorkbenchError: when there is no such alert, or no such duration, or no reason.
        MonitorError: when it cannot be kept.
    """
    known = [rule.name for rule in rules]
    if wish.alert != EVERY and wish.alert not in known:
        raise WorkbenchError(
            f"there is no alert {wish.alert!r}; known are {', '.join(known) or 'none'}",
            remedy="Name one of them, or *.",
        )
    if not wish.reason.strip():
        raise WorkbenchError("a silence without a reason", remedy="Say why, for those who ask later.")
    rule = "" if wish.alert == EVERY else wish.alert
    until = time.time() + seconds_of(wish.duration)
    with MonitorDatabase.of(home) as database, database.changing():
        number = database.add_silence(rule, wish.labels, until, by, wish.reason)
    return Silence(id=number, rule=rule, labels=wish.labels, until=until, made_by=by, reason=wish.reason)


def end_silence(home: Path, number: int) -> None:
    """End a silence.

    Raises:
        WorkbenchError: when there is none of that number.
        MonitorError: when it cannot be kept.
    """
    with MonitorDatabase.of(home) as database, database.changing():
        is_removed = database.remove_silence(number)
    if not is_removed:
        raise WorkbenchError(f"there is no silence {number}", remedy="See `workbench alerts silences`.")


def seconds_of(text: str) -> float:
    """The seconds of a duration such as 30m.

    Raises:
        WorkbenchError: when it is none up to 30 days.
    """
    try:
        length = parse_duration(text)
    except ValueError:
        length = timedelta()
    if not timedelta() < length <= LONGEST:
        raise WorkbenchError(f"{text!r} is no duration up to 30 days", remedy="Write one such as 30m, 1h30m or 2d.")
    return length.total_seconds()
