"""Starts and stops of users' servers, brought from JupyterHub to the audit log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from workbench.errors import WorkbenchError
from workbench.security.audit import Action, AuditLog

SCHEMA = "https://schema.jupyter.org/jupyterhub/events/server-action"
ACTOR = "hub"  # JupyterHub's event does not say who pressed the button

log = logging.getLogger(__name__)


@dataclass
class Throttle:
    """Lets so many events through in a minute, and counts the others: strangers must not fill the disk."""

    per_minute: int = 20
    clock: Callable[[], float] = time.monotonic
    _begun: float = field(default=float("-inf"), init=False)
    _count: int = field(default=0, init=False)
    _left_out: int = field(default=0, init=False)

    def admit(self) -> int | None:
        """How many events were left out since the last that was let through; None when this one is, too."""
        now = self.clock()
        if now - self._begun >= 60:
            self._begun, self._count = now, 0
        self._count += 1
        if self._count > self.per_minute:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return left_out


class ServerStarts(logging.Handler):
    """Receives JupyterHub's events and records each start of a server.

    Its stops are recorded by `record_stop`, which also hears of servers that ended by themselves.

    >>> c.EventLogger.handlers = [ServerStarts(audit)]
    """

    def __init__(self, audit: AuditLog) -> None:
        super().__init__()
        self._audit = audit

    def __deepcopy__(self, memo: Any) -> Self:
        # JupyterHub copies its configuration; a lock cannot be copied.
        return self

    def emit(self, record: logging.LogRecord) -> None:
        """Called with an event as JSON."""
        event = json.loads(self.format(record))
        if event.get("__schema__") == SCHEMA and event["action"] == "start":
            resource = server_resource(event["username"], event["servername"])
            try:
                self._audit.record(Action.SERVER_STARTED, actor=ACTOR, resource=resource)
            except WorkbenchError as error:
                # The server runs: its owner would be told that the start has failed.
                log.error("%s: %s", resource, error)  # noqa: TRY400


def record_stop(audit: AuditLog, spawner: Any) -> None:
    """For `Spawner.post_stop_hook`: record that a server has stopped, whoever or whatever stopped it."""
    audit.record(Action.SERVER_STOPPED, actor=ACTOR, resource=server_resource(spawner.user.name, spawner.name))


def server_resource(user: str, server: str) -> str:
    """How the audit log names a server."""
    return f"server:{user}/{server}"
