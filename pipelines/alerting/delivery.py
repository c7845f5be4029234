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
MOST_REFUSED = 20  # of one channel at once: after so many it is the channel, and no message
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
    arrived, refused = 0, list[int]()
    failure: Outcome | None = None
    for group in _by_subject(taken):
        if time.monotonic() > until or len(refused) >= MOST_REFUSED:
            break
        outcome = _send(post, name, group)
        if outcome.result is Result.SENT:
            with store.transaction() as connection:
                sent(connection, [each.id for each in group])
            arrived += len(group)
            continue
        failure = outcome
        if outcome.result is Result.RETRY:
            break
        # It may be this message alone: one that a channel does not take holds up no other.
        refused += [each.id for each in group]
    _wait(store, name, failure, has_arrived=arrived > 0, refused=refused, left=len(taken) - arrived)
    return arrived


def _wait(
    store: Store, name: str, failure: Outcome | None, *, has_arrived: bool, refused: Sequence[int], left: int
) -> None:
    """Say when what is left of a channel is tried again."""
    if failure is not None:
        logger.warning("%s alerts wait for a channel: %s. %s", left, failure.reason, failure.remedy)
    is_down = failure is not None and (failure.result is Result.RETRY or not has_arrived)
    with store.transaction() as connection:
        if is_down:
            wait_together(connection, name)
        elif has_arrived:
            wait_no_longer(connection, name, but=refused)


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
