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
from pipelines.store.alerts import REFUSED, TO, due_channels, hand_out, park, wait_no_longer, wait_together
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
MOST_REFUSED = 20  # groups of one channel at once: after so many it is the channel, and no message
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
    arrived: list[Taken] = []
    refused: list[list[Taken]] = []
    failure: Outcome | None = None
    for group in _by_subject(taken):
        if time.monotonic() > until or len(refused) >= MOST_REFUSED:
            break
        outcome = _send(post, name, group)
        if outcome.result is Result.SENT:
            with store.transaction() as connection:
                sent(connection, [each.id for each in group])
            arrived += group
            continue
        failure = outcome
        if outcome.result is Result.RETRY:
            break
        # It may be this message alone: one that a channel does not take holds up no other.
        refused.append(group)
    if failure is not None:
        left = len(taken) - len(arrived)
        logger.warning("%s alerts wait for a channel: %s. %s", left, failure.reason, failure.remedy)
    if taken:
        is_down = failure is not None and failure.result is Result.RETRY
        _wait(store, name, arrived, refused, is_down=is_down)
    return len(arrived)


def _wait(
    store: Store, name: str, arrived: Sequence[Taken], refused: Sequence[Sequence[Taken]], *, is_down: bool
) -> None:
    """Say when what is left of a channel is tried again."""
    if is_all := not arrived and len(refused) >= MOST_REFUSED:
        refused = ()
    parked = [each for group in refused for each in group]
    with store.transaction() as connection:
        park(connection, parked)
        if is_down or is_all:
            wait_together(connection, name)
        else:
            # When one that it has refused arrives, the channel was corrected.
            is_corrected = any(REFUSED in each.body for each in arrived)
            wait_no_longer(connection, name, but=[each.id for each in parked], parked=is_corrected)


def _send(post: Post, name: str, group: Sequence[Taken]) -> Outcome:
    try:
        notification = as_notification(group, post.site)
    except Exception:
        logger.exception("a message for the channel %s cannot be worded", name)
        return Outcome(Result.REFUSED, f"a message for channel {name} cannot be worded", "This is a defect; report it.")
    return post.send(name, notification)


def _by_subject(taken: Sequence[Taken]) -> list[list[Taken]]:
    """Runs of one pipeline, and messages of one alert from its beginning to its end; first what was tried least."""
    groups: dict[tuple[str, str], list[Taken]] = {}
    for each in taken:
        subject = ("alert", each.body["key"]) if "alert" in each.body else ("pipeline", each.body["pipeline"])
        groups.setdefault(subject, []).append(each)
    return sorted(groups.values(), key=lambda group: min(each.tries for each in group))


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
