"""Sends alerts of runs and of metrics: each at least once, with one key each time; a channel that is down does not hold up another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipelines.alerting.texts import as_notification
from pipelines.store.alerts import TO, due_channels, hand_out, wait_no_longer, wait_together
from pipelines.store.database import Store
from pipelines.store.outbox import TAKEN_SECONDS, Taken, sent, take_messages
from workbench.background import Background
from workbench.errors import StoreError, WorkbenchError
from workbench.observability.notifications import (
    SEND_SECONDS,
    Notification,
    Outcome,
    Result,
    load_channels,
    send,
)
from workbench.resolving import References

logger = logging.getLogger(__name__)

AT_ONCE = 500  # of one channel; those of one pipeline or one alert are one message
CHANNELS_AT_ONCE = 8
LOOK_SECONDS = 2.0
BEGIN_SECONDS = TAKEN_SECONDS - SEND_SECONDS - 2  # a message is ours for half a minute


@dataclass(frozen=True)
class Post:
    """What is needed to send.

    Args:
        file: pipelines/alerts.yaml; read anew each time, so that a correction needs no restart.
        references: reads those of channels.
        site: where the pages of runs are; empty is nowhere.
    """

    file: Path
    references: References
    site: str = ""

    def send(self, name: str, notification: Notification) -> Outcome:
        """Send to the channel of that name."""
        try:
            channel = load_channels(self.file).channels.get(name)
        except WorkbenchError as error:
            return Outcome(Result.REFUSED, error.message, error.remedy)
        if channel is None:
            return Outcome(Result.REFUSED, f"{self.file} has no channel {name}", "Declare it there.")
        return send(channel, notification, self.references)


def deliver(store: Store, post: Post) -> int:
    """Send what is due; returns how many alerts have arrived somewhere.

    Raises:
        StoreError: when the store does not answer or refuses; what has arrived is sent once more later.
    """
    with store.transaction() as connection:
        hand_out(connection)
        channels = due_channels(connection)[:CHANNELS_AT_ONCE]
    if not channels:
        return 0
    with ThreadPoolExecutor(len(channels), thread_name_prefix="alerts") as threads:
        return sum(threads.map(lambda name: _deliver_to(store, post, name), channels))


def _deliver_to(store: Store, post: Post, name: str) -> int:
    until = time.monotonic() + BEGIN_SECONDS
    with store.transaction() as connection:
        taken = take_messages(connection, AT_ONCE, kind=TO + name)
    arrived = 0
    for group in _by_subject(taken):
        if time.monotonic() > until:
            break
        outcome = post.send(name, as_notification(group, post.site))
        if outcome.result is not Result.SENT:
            late = len(taken) - arrived
            logger.warning("%s alerts wait for a channel: %s. %s", late, outcome.reason, outcome.remedy)
            with store.transaction() as connection:
                wait_together(connection, name)
            return arrived
        with store.transaction() as connection:
            sent(connection, [each.id for each in group])
        arrived += len(group)
    if arrived:
        with store.transaction() as connection:
            wait_no_longer(connection, name)
    return arrived


def _by_subject(taken: Sequence[Taken]) -> list[list[Taken]]:
    """Runs of one pipeline, and messages of one alert from its beginning to its end."""
    groups: dict[tuple[str, str], list[Taken]] = {}
    for each in taken:
        subject = ("alert", each.body["key"]) if "alert" in each.body else ("pipeline", each.body["pipeline"])
        groups.setdefault(subject, []).append(each)
    return list(groups.values())


def courier(store: Store, post: Post) -> Background:
    """Deliver in a thread while the context is open. Several processes may do so.

    Args:
        store: entered; a connection of it is used for a moment before and after each message.
        post: how to send.
    """
    return Background("alerts", partial(_keep_delivering, store, post), end_seconds=SEND_SECONDS)


def _keep_delivering(store: Store, post: Post, stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            deliver(store, post)
        except StoreError as error:
            logger.warning("alerts are sent later: %s", error)
        except Exception:
            # A fault in one message must not end the thread that sends the others.
            logger.exception("alerts are sent later")
        stopping.wait(LOOK_SECONDS)
