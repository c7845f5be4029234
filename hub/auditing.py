"""The audit log as the hub writes it: beside the event loop, with starts and stops of users' servers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

from workbench.security.audit import Action, AuditLog, Event
from workbench.security.audit.proof.checkpointer import LOOK_SECONDS, Checkpointer, try_tick

SCHEMA = "https://schema.jupyter.org/jupyterhub/events/server-action"
ACTOR = "hub"  # JupyterHub's event does not say who pressed the button

log = logging.getLogger(__name__)


class AuditTrail:
    """The audit log for code of the event loop: one thread writes, everything that has come meanwhile at once.

    While the disk is slow, only those wait whose event is to be written.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._waiting: deque[tuple[Event, Future[None]]] = deque()

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
            AuditError: when it is not.
        """
        await self.append(Event.of(action, actor=actor, resource=resource, outcome=outcome, **details))

    async def append(self, event: Event) -> None:
        """Append the event; when this returns, it is on the disk.

        Raises:
            AuditError: when it is not.
        """
        # Whoever stops waiting takes no event out of the log.
        await asyncio.shield(asyncio.wrap_future(self.begin(event)))

    def begin(self, event: Event) -> Future[None]:
        """Append the event, for those who cannot wait: before all that is recorded later."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()
        self._waiting.append((event, done))
        self._writer.submit(self._write)
        return done

    def _write(self) -> None:
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            if batch:
                self._log.append(*(event for event, _ in batch))
        except BaseException as error:  # noqa: BLE001 - each of those who wait is told
            for _, done in batch:
                done.set_exception(error)
        else:
            for _, done in batch:
                done.set_result(None)


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
            writing.add_done_callback(partial(tell_failure, resource))


async def keep_checkpoints(checkpointer: Checkpointer) -> None:
    """Sign what the audit log is, every minute, for as long as the hub runs; another process may do it as well."""
    told = ""
    while True:
        told = await asyncio.to_thread(try_tick, checkpointer, told)
        await asyncio.sleep(LOOK_SECONDS)


async def record_stop(audit: AuditTrail, spawner: Any) -> None:
    """For `Spawner.post_stop_hook`: record that a server has stopped, whoever or whatever stopped it."""
    await audit.record(Action.SERVER_STOPPED, actor=ACTOR, resource=server_resource(spawner.user.name, spawner.name))


def server_resource(user: str, server: str) -> str:
    """How the audit log names a server."""
    return f"server:{user}/{server}"


def tell_failure(resource: str, writing: Future[None]) -> None:
    """Log that an event is not in the audit log which nobody waits for."""
    # The server runs: its owner would be told that the start has failed.
    if error := writing.exception():
        log.error("%s: %s", resource, error)
