"""One event: bounded, without secrets, in the shape of OCSF."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from workbench.security.audit.actions import MEANINGS, Action, Class, Meaning, Outcome

FIELD_BYTES = 256
DETAILS = 16
SECRET_NAME = re.compile(r"token|secret|password|passwd|cookie|authorization|credential|api_?key", re.IGNORECASE)
HIDDEN = "***"
OCSF_VERSION = "1.6.0"
PRODUCT = "Analytics Workbench"
#: OCSF's `status_id`: 1 is success, 2 failure, 99 another, whose name is in `status`.
STATUS: dict[str, int] = {Outcome.BEGUN: 99, Outcome.SUCCESS: 1, Outcome.REFUSED: 2, Outcome.FAILED: 2}
SEVERITY: dict[str, int] = {Outcome.REFUSED: 3, Outcome.FAILED: 3}  #: medium; 1 is informational
OTHER = Meaning(Class.API_ACTIVITY, 99, fails_closed=False)  #: of an action that this version does not know


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Fields longer than 256 bytes are cut, and details whose names speak of a secret are hidden:
    what comes from outside never keeps an event out of the log.

    """

    actor: str  #: a hub name, `operator:NAME` for who typed a command, `webhook:PIPELINE` for its secret, or a process such as `hub`
    action: str
    resource: str  #: what it was done to: `hub`, a hub name, `server:NAME/SERVER`
    outcome: str
    details: Mapping[str, str] = field(default_factory=dict)
    time: datetime = field(default_factory=lambda: datetime.now(UTC), kw_only=True)
    id: str = field(default_factory=lambda: uuid.uuid4().hex, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("actor", "action", "resource", "outcome", "id"):
            object.__setattr__(self, name, _bounded(getattr(self, name)))
        details = list(self.details.items())[:DETAILS]
        object.__setattr__(self, "details", {_bounded(name): _shown(name, value) for name, value in details})
        time = self.time.astimezone(UTC)
        object.__setattr__(self, "time", time.replace(microsecond=time.microsecond // 1000 * 1000))

    @classmethod
    def of(cls, action: str, *, actor: str, resource: str, outcome: str = "", **details: object) -> Event:
        """What has just happened. Without an outcome, it is what the action's name ends in: refused, failed, else success."""
        texts = {name: str(value) for name, value in details.items()}
        return cls(actor, action, resource, outcome or _usual_outcome(action), texts)

    @property
    def meaning(self) -> Meaning:
        """Its class in OCSF."""
        try:
            return MEANINGS[Action(self.action)]
        except ValueError:
            return OTHER

    def as_ocsf(self) -> dict[str, Any]:
        """The event as OCSF has it, with keys in the order of RFC 8785; only strings, integers, objects and arrays."""
        kind, activity = int(self.meaning.kind), self.meaning.activity
        return {
            "activity_id": activity,
            "actor": {"user": {"name": self.actor}},
            "category_uid": kind // 1000,
            "class_uid": kind,
            "metadata": {
                "event_code": self.action,
                "product": {"name": PRODUCT},
                "uid": self.id,
                "version": OCSF_VERSION,
            },
            "resources": [{"name": self.resource}],
            "severity_id": SEVERITY.get(self.outcome, 1),
            "status": self.outcome,
            "status_id": STATUS.get(self.outcome, 0),
            "time": int(self.time.timestamp() * 1000 + 0.5),
            "type_uid": kind * 100 + activity,
            # RFC 8785 sorts names by their UTF-16 code units.
            "unmapped": dict(sorted(self.details.items(), key=lambda each: each[0].encode("utf-16-be"))),
        }

    @classmethod
    def of_ocsf(cls, fields: Mapping[str, Any]) -> Event:
        """The event that `as_ocsf` has shown.

        Raises:
            ValueError: when it shows none.
        """
        try:
            return cls(
                fields["actor"]["user"]["name"],
                fields["metadata"]["event_code"],
                fields["resources"][0]["name"],
                fields["status"],
                fields["unmapped"],
                time=datetime.fromtimestamp(fields["time"] / 1000, UTC),
                id=fields["metadata"]["uid"],
            )
        except (AttributeError, KeyError, IndexError, TypeError, OverflowError, OSError) as error:
            raise ValueError(f"no event: {error}") from error

    @classmethod
    def of_line(cls, line: bytes) -> Event:
        """The event of one line of the log, sealed or of the time before there were seals.

        Raises:
            ValueError: when the line is none.
        """
        try:
            fields = json.loads(line)
            if "event" in fields:
                return cls.of_ocsf(fields["event"])
            return cls(**{**fields, "time": datetime.fromisoformat(fields["time"])})
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"no event: {error}") from error


def _usual_outcome(action: str) -> str:
    return next(
        (outcome for outcome in (Outcome.REFUSED, Outcome.FAILED) if action.endswith(f".{outcome}")), Outcome.SUCCESS
    )


def _shown(name: str, value: object) -> str:
    return HIDDEN if SECRET_NAME.search(name) else _bounded(str(value))


def _bounded(text: str) -> str:
    """At most 256 bytes of UTF-8; lone surrogates, which are none, become escapes."""
    encoded = str(text).encode("utf-8", "backslashreplace")
    if len(encoded) <= FIELD_BYTES:
        return encoded.decode()
    ellipsis = "…"
    return encoded[: FIELD_BYTES - len(ellipsis.encode())].decode("utf-8", "ignore") + ellipsis
