"""Sends what waits in the outbox: each event at least once, to a file or over HTTP."""

from __future__ import annotations

import fcntl
import http.client
import json
import logging
import os
import threading
import urllib.request
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from pipelines.lineage.messages import KIND
from pipelines.store.database import Store
from pipelines.store.outbox import Taken, sent, take_messages
from workbench.background import Background
from workbench.errors import StoreError
from workbench.sections import PipelinesSettings

logger = logging.getLogger(__name__)

HTTP_SECONDS = 5.0  # a message is ours for thirty, and some are sent at once
AT_ONCE = 5
LOOK_SECONDS = 2.0
PRIVATE = 0o600


class Sink(Protocol):
    """Where events go."""

    def send(self, events: Iterable[Taken]) -> Iterable[int]:
        """Send them in their order; gives the id of each that has arrived, and stops at the first that has not.

        Raises:
            OSError: when one has not arrived.
        """


@dataclass(frozen=True)
class FileSink:
    """A file with one JSON a line, which several processes may append to."""

    path: Path

    def send(self, events: Iterable[Taken]) -> Iterable[int]:
        """Append them; they are on the disk when this returns."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # A process that was killed may have left half a line.
            lines = [b"\n"] if _is_cut(file.fileno()) else []
            taken = list(events)
            lines += [json.dumps(each.body, separators=(",", ":")).encode() + b"\n" for each in taken]
            file.write(b"".join(lines))
            os.fsync(file.fileno())
        return [each.id for each in taken]


@dataclass(frozen=True)
class HttpSink:
    """An address that takes one event a request, such as that of Marquez or DataHub."""

    url: str
    token: SecretStr

    def send(self, events: Iterable[Taken]) -> Iterable[int]:
        """Post them one by one."""
        for each in events:
            self._post(each)
            yield each.id

    def _post(self, event: Taken) -> None:
        headers = {"Content-Type": "application/json"}
        if token := self.token.get_secret_value():
            headers["Authorization"] = f"Bearer {token}"
        body = json.dumps(event.body).encode()
        request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 - http or https, see settings
        with OPENER.open(request, timeout=HTTP_SECONDS) as answer:
            answer.read()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Another address is never given our token, or half of our request."""

    def redirect_request(self, *_: object) -> None:
        """Nowhere."""


OPENER = urllib.request.build_opener(_NoRedirect)


def couriers(store: Store, settings: PipelinesSettings) -> AbstractContextManager[object]:
    """Deliver while the context is open, if the settings want somebody to be told. Several processes may do so.

    Args:
        store: entered; one connection of it is used.
        settings: say where events go.
    """
    sink = sink_of(settings)
    if sink is None:
        return nullcontext()
    return Background("lineage", partial(_keep_delivering, store, sink), end_seconds=HTTP_SECONDS * AT_ONCE)


def sink_of(settings: PipelinesSettings) -> Sink | None:
    """Where the settings want events to go; None is nowhere."""
    if settings.lineage_file is not None:
        return FileSink(settings.lineage_file)
    return HttpSink(settings.lineage_url, settings.lineage_token) if settings.lineage_url else None


def deliver(store: Store, sink: Sink) -> int:
    """Send some events that are due; returns how many have arrived.

    Raises:
        StoreError: when the store does not answer or refuses; what has arrived is sent once more later.
    """
    with store.transaction() as connection:
        taken = take_messages(connection, AT_ONCE, kind=KIND)
    if not taken:
        return 0
    arrived: list[int] = []
    try:
        for each in sink.send(taken):
            arrived.append(each)  # noqa: PERF402 - what has arrived before an error counts
    except (OSError, http.client.HTTPException) as error:
        late = len(taken) - len(arrived)
        logger.warning("%s events of lineage have not arrived, and are sent later: %s", late, error)
    with store.transaction() as connection:
        sent(connection, arrived)
    return len(arrived)


def _keep_delivering(store: Store, sink: Sink, stopping: threading.Event) -> None:
    """Until it is to end, and then once more: what has just ended is told by who ends with it."""
    is_last = False
    while not is_last:
        is_last = stopping.is_set()
        try:
            arrived = deliver(store, sink)
        except StoreError as error:
            logger.warning("lineage is sent later: %s", error)
            arrived = 0
        if arrived < AT_ONCE:
            stopping.wait(LOOK_SECONDS)


def _is_cut(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
