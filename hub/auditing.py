"""The audit log as the hub writes it: beside the event loop, with starts and stops of users' servers."""

from __future__ import annotations

import asyncio
import json
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

from workbench.security.audit import Action, AuditLog, Event

SCHEMA = "https://schema.jupyter.org/jupyterhub/events/server-action"
ACTOR = "hub"  # JupyterHub's event does not say who pressed the button

log = logging.getLogger(__name__)


class AuditTrail:
    """The audit log for code of the event loop: one thread writes, one event after the other.

    While the disk is slow, only those wait whose event is to be written.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="audit")

    def __deepcopy__(self, memo: Any) -> Self:
        # JupyterHub copies its configuration; a thread cannot be copied.
        return self

    @property
    def path(self) -> Path:
        """The file of the log."""
        return self._log.path

    async def record(self, action: str, *, actor: str, resource: str, outcome: str = "", **details: object) -> None:
        """Append what has just happened, see `Event.of`; when this returns, it is on the disk.

        Raises:
            WorkbenchError: when it is not.
        """
        writing = self.begin(Event.of(action, actor=actor, resource=resource, outcome=outcome, **details))
        # Whoever stops waiting takes no event out of the log.
        await asyncio.shield(asyncio.wrap_future(writing))

    def begin(self, event: Event) -> Future[None]:
        """Append the event, for those who cannot wait: before all that is recorded later."""
        return self._writer.submit(self._log.append, event)


class ServerStarts(logging.Handler):
    """Receives JupyterHub's events and records each start of a server, without waiting for the disk.

    Its stops are recorded by `record_stop`, which also hears of servers that ended by themselves.

    >>> c.EventLogger.handlers = [ServerStarts(audit)]
    """

    def __init__(self, audit: AuditTrail) -> None:
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
            writing = self._audit.begin(Event.of(Action.SERVER_STARTED, actor=ACTOR, resource=resource))
            writing.add_done_callback(partial(_tell_failure, resource))


async def record_stop(audit: AuditTrail, spawner: Any) -> None:
    """For `Spawner.post_stop_hook`: record that a server has stopped, whoever or whatever stopped it."""
    await audit.record(Action.SERVER_STOPPED, actor=ACTOR, resource=server_resource(spawner.user.name, spawner.name))


def server_resource(user: str, server: str) -> str:
    """How the audit log names a server."""
    return f"server:{user}/{server}"


def _tell_failure(resource: str, writing: Future[None]) -> None:
    # The server runs: its owner would be told that the start has failed.
    if error := writing.exception():
        log.error("%s: %s", resource, error)
