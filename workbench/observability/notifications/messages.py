"""What is sent, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, kw_only=True)
class Notification:
    """One message.

    Args:
        title: one line.
        body: plain text.
        key: the same each time that this message is sent. Who gets it twice knows it by the key.
        severity: how bad it is.
        is_resolved: whether what was told with that key is over.
    """

    title: str
    body: str
    key: str
    severity: Severity = Severity.CRITICAL
    is_resolved: bool = False


class Result(StrEnum):
    """What became of a message."""

    SENT = "sent"
    RETRY = "retry"  #: it has not arrived; waiting may help
    REFUSED = "refused"  #: it will not arrive before a person changes something


@dataclass(frozen=True)
class Outcome:
    """What became of a message, why, and what to do; never with the channel's address."""

    result: Result
    reason: str = ""
    remedy: str = ""
