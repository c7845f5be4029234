"""The audit log: who did what to whom, one JSON object a line, on disk before it counts as recorded.

Lines are only ever appended. A line that a crash cut off was never acknowledged: readers pass
over it, and the next writer begins on a line of its own.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.security.secrets import private_folder, sync_folder

FIELD_BYTES = 256
DETAILS = 16
TAIL_BYTES = 1 << 20
SECRET_NAME = re.compile(r"token|secret|password|passwd|cookie|authorization|credential|api_?key", re.IGNORECASE)
HIDDEN = "***"

log = logging.getLogger(__name__)


class Action(StrEnum):
    """What can have happened."""

    LOGIN_SUCCEEDED = "login.succeeded"
    LOGIN_REFUSED = "login.refused"  #: the provider knows the person; our rules do not let them in
    LOGIN_FAILED = "login.failed"  #: nobody was proven to be anybody
    LOGOUT = "logout"
    ACCOUNT_LINKED = "account.linked"
    MEMBERSHIP_REVOKED = "membership.revoked"
    SERVER_STARTED = "server.started"
    SERVER_STOPPED = "server.stopped"
    SERVER_REFUSED = "server.refused"
    USER_OFFBOARDED = "user.offboarded"
    USER_UNBLOCKED = "user.unblocked"
    KEYS_ROTATED = "keys.rotated"
    ACCOUNT_UNLINKED = "account.unlinked"
    KEYSET_CREATED = "keyset.created"
    KEYSET_ROTATED = "keyset.rotated"
    KEYSET_PROMOTED = "keyset.promoted"
    KEYSET_REWRAPPED = "keyset.rewrapped"
    KEYSET_RETIRED = "keyset.retired"
    KEYSET_DESTROYED = "keyset.destroyed"
    KEYSET_ENABLED = "keyset.enabled"
    RUN_STARTED = "run.started"  #: of a pipeline, by a person
    RUN_CANCELLED = "run.cancelled"
    RUN_REPAIRED = "run.repaired"
    BACKFILL_STARTED = "backfill.started"
    BACKFILL_PAUSED = "backfill.paused"
    BACKFILL_RESUMED = "backfill.resumed"
    BACKFILL_CANCELLED = "backfill.cancelled"
    PIPELINE_PAUSED = "pipeline.paused"
    PIPELINE_RESUMED = "pipeline.resumed"
    POOL_RESIZED = "pool.resized"
    FLOW_STARTED = "flow.started"  #: somebody wants it kept running
    FLOW_STOPPED = "flow.stopped"
    FLOW_RESTARTED = "flow.restarted"
    WEBHOOK_ACCEPTED = "webhook.accepted"  #: it has made a run
    WEBHOOK_REFUSED = "webhook.refused"  #: nobody was proven to have the secret
    POLICIES_APPLIED = "policies.applied"
    CREDENTIALS_GIVEN = "credentials.given"  #: a role of the warehouse with a new password, to its owner
    CREDENTIALS_REMOVED = "credentials.removed"


class Outcome(StrEnum):
    """How it ended."""

    SUCCESS = "success"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Fields longer than 256 bytes are cut, and details whose names speak of a secret are hidden:
    what comes from outside never keeps an event out of the log.

    """

    actor: str  #: a hub name, `operator:NAME` for who typed a command, `webhook:PIPELINE` for its secret, or `hub`
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

    def as_line(self) -> bytes:
        """The event as the log holds it, line feed included."""
        fields = {
            "id": self.id,
            "time": self.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "actor": self.actor,
            "action": self.action,
            "resource": self.resource,
            "outcome": self.outcome,
            "details": self.details,
        }
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Event:
        """The event of one line.

        Raises:
            ValueError: when the line is none.
        """
        try:
            fields = json.loads(line)
            return cls(**{**fields, "time": datetime.fromisoformat(fields["time"])})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no event: {error}") from error


@dataclass(frozen=True)
class AuditLog:
    """The file that all processes of a workbench append to, in any number at once."""

    path: Path

    @classmethod
    def of(cls, home: Path) -> AuditLog:
        """The audit log of the workbench whose WORKBENCH_HOME is *home*."""
        return cls(home / "audit" / "events.jsonl")

    def record(self, action: str, *, actor: str, resource: str, outcome: str = "", **details: object) -> None:
        """Append what has just happened, see `Event.of`; when this returns, it is on the disk.

        >>> log.record(Action.LOGIN_SUCCEEDED, actor="gh-ada", resource="hub", provider="github")

        Raises:
            WorkbenchError: as `append`.
        """
        self.append(Event.of(action, actor=actor, resource=resource, outcome=outcome, **details))

    def append(self, event: Event) -> None:
        """Append the event; when this returns, it is on the disk. The only place that writes the log.

        Raises:
            WorkbenchError: when it is not; the log then holds no part of it that a reader would take for an event.
        """
        try:
            descriptor = self._open()
            try:
                # Given up when the file is closed.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _append(descriptor, event.as_line())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise WorkbenchError(
                f"the audit log {self.path} cannot be written: {error.strerror}",
                remedy="Make room on its disk, and let the user who runs the hub own the folder.",
            ) from error

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags)
        except FileNotFoundError:
            folder = private_folder(self.path.parent)
            descriptor = os.open(self.path, flags | os.O_CREAT, 0o600)
            sync_folder(folder)
            return descriptor


def read_events(
    path: Path, *, actor: str | None = None, action: str | None = None, since: datetime | None = None
) -> Iterator[Event]:
    """Events of the log at *path*, the oldest first; those of one actor, of one action, or from *since* on.

    Lines that are no events are passed over, with a warning unless it is a last one that is not whole.

    >>> [event.actor for event in read_events(log.path, action=Action.LOGIN_REFUSED)]
    """
    for event in _events(path, 0):
        if (
            (actor is None or event.actor == actor)
            and (action is None or event.action == action)
            and (since is None or event.time >= since)
        ):
            yield event


def read_last_events(path: Path, *, action: str, count: int) -> list[Event]:
    """The newest events of one action, the newest first, as far as the last MiB of the log has them."""
    try:
        start = max(0, path.stat().st_size - TAIL_BYTES)
    except FileNotFoundError:
        return []
    found = [event for event in _events(path, start) if event.action == action]
    return found[: -count - 1 : -1]


def _usual_outcome(action: str) -> str:
    return next(
        (outcome for outcome in (Outcome.REFUSED, Outcome.FAILED) if action.endswith(f".{outcome}")), Outcome.SUCCESS
    )


def _append(descriptor: int, line: bytes) -> None:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    is_torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
    written = (b"\n" if is_torn else b"") + line
    if os.write(descriptor, written) != len(written):
        os.ftruncate(descriptor, end)
        raise OSError(None, "no room for a whole line")
    os.fsync(descriptor)


def _events(path: Path, start: int) -> Iterator[Event]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        if start:
            file.seek(start - 1)
            file.readline()  # what is left of a line that began before
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                yield Event.of_line(line)
            except ValueError:
                log.warning("%s: a line before byte %s is no event", path, file.tell())


def _shown(name: str, value: object) -> str:
    return HIDDEN if SECRET_NAME.search(name) else _bounded(str(value))


def _bounded(text: str) -> str:
    """At most 256 bytes of UTF-8; lone surrogates, which are none, become escapes."""
    encoded = str(text).encode("utf-8", "backslashreplace")
    if len(encoded) <= FIELD_BYTES:
        return encoded.decode()
    ellipsis = "…"
    return encoded[: FIELD_BYTES - len(ellipsis.encode())].decode("utf-8", "ignore") + ellipsis
