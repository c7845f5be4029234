"""What the panel of alerts shows, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class AlertState:
    """An alert that pends or fires."""

    name: str
    severity: str = ""
    stage: str = ""  #: pending or firing
    labels: Labels = ()
    value: str = ""  #: with its unit
    since: datetime | None = None  #: its condition holds
    silenced_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RuleState:
    """An alert of the file, and what its quantities are now."""

    name: str
    severity: str = ""
    condition: str = ""  #: with its duration
    values: tuple[str, ...] = ()  #: the worst first
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SilenceState:
    """A silence that is not over."""

    id: int
    alert: str  #: `*` is every one
    labels: Labels = ()
    until: datetime | None = None
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class AlertsState:
    """All of it."""

    alerts: tuple[AlertState, ...] = ()
    rules: tuple[RuleState, ...] = ()
    silences: tuple[SilenceState, ...] = ()
    problems: tuple[str, ...] = ()  #: in words


def labels_text(labels: Labels) -> str:
    """As a command would have them."""
    return " ".join(f"{name}={value}" for name, value in labels)
