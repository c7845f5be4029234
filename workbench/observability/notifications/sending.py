"""Sends a message through Apprise, within a bounded time, and says what became of it.

Apprise logs addresses and tells why something failed in its log alone. Its log is kept from ours,
and of its lines only the status code of HTTP is read (RFC 9110, section 15).
"""

from __future__ import annotations

import hashlib
import logging
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from workbench.observability.notifications.addresses import Unconfigured, find_address
from workbench.observability.notifications.channels import Channel
from workbench.observability.notifications.messages import Notification, Outcome, Result, Severity
from workbench.resolving import References

if TYPE_CHECKING:
    import apprise

SEND_SECONDS = 8.0  #: for a message to a channel, at most
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
STATUS = re.compile(r"\berror=(\d{3})\b")
PASSING = frozenset({408, 425, 429})  # of those that blame the request, what is told to who comes too early
KINDS = {Severity.CRITICAL: "failure", Severity.WARNING: "warning", Severity.INFO: "info"}


def send(channel: Channel, notification: Notification, references: References) -> Outcome:
    """Send *notification* to *channel*; returns within `SEND_SECONDS`, and raises nothing.

    Args:
        channel: where to.
        notification: what.
        references: reads the channel's.
    """
    try:
        address = find_address(channel, references)
    except Unconfigured as error:
        return Outcome(Result.REFUSED, error.message, error.remedy)
    try:
        return _send_to(channel, address.get_secret_value(), notification)
    except Exception as error:  # noqa: BLE001 - plugins raise whatever they like, with the address in it
        return Outcome(Result.RETRY, f"channel {channel.name} could not be told: {type(error).__name__}")


def _send_to(channel: Channel, address: str, notification: Notification) -> Outcome:
    service = read_service(address)
    if service is None:
        return Outcome(
            Result.REFUSED,
            f"channel {channel.name}: what is at {channel.reference} is no Apprise URL",
            "Correct it; docs/alerts.md has examples.",
        )
    _hand_on_key(service, notification)
    return _notify(channel, service, notification)


def _notify(channel: Channel, service: apprise.NotifyBase, notification: Notification) -> Outcome:
    from apprise import NotifyFormat, NotifyType
    from apprise.result import AppriseResultStatus

    sender = _library().Apprise(asset=service.asset)
    sender.add(service)
    result = sender.notify(
        title=notification.title,
        body=body_for(service, notification),
        notify_type=NotifyType("success" if notification.is_resolved else KINDS[notification.severity]),
        body_format=NotifyFormat.TEXT,
        timeout=SEND_SECONDS,
        log_level=logging.WARNING,
    )
    if result:
        return Outcome(Result.SENT)
    if result.status is AppriseResultStatus.TIMEOUT:
        return Outcome(Result.RETRY, f"channel {channel.name} did not answer within {SEND_SECONDS:.0f} s")
    return _failure(channel, [str(entry) for entry in result.logs()])


def body_for(service: apprise.NotifyBase, notification: Notification) -> str:
    """The body with its key at the end, cut to what the service takes: what is longer would be refused for ever.

    PagerDuty takes 1,024 characters, Discord 2,000, Telegram 4,096 (`body_maxlen` of Apprise's plugins).
    """
    end = f"\n\nKey: {notification.key}"
    room = service.body_maxlen - _title_room(service, len(notification.title)) - len(end)
    if len(notification.body) <= room:
        return f"{notification.body}{end}"
    left_out = f"\n… cut: {len(notification.body):,} characters in all"
    return f"{notification.body[: max(0, room - len(left_out))]}{left_out}{end}"


def _title_room(service: apprise.NotifyBase, title: int) -> int:
    """Of the body's characters those that a title of that length takes, as Apprise counts when it cuts."""
    if service.title_maxlen <= 0:
        # Who knows no titles gets them within the body.
        return title + len("\r\n")
    if service.overflow_amalgamate_title:
        return min(title + service.overflow_max_display_count_width, service.title_maxlen) + service.overflow_buffer
    return 0


def _failure(channel: Channel, lines: list[str]) -> Outcome:
    codes = [int(found.group(1)) for found in map(STATUS.search, lines) if found]
    if not codes:
        return Outcome(
            Result.RETRY,
            f"channel {channel.name} could not be reached, or refused the login or the message",
            "See that its server runs, and that the address names the right one.",
        )
    if 400 <= codes[-1] < 500 and codes[-1] not in PASSING:
        return Outcome(
            Result.REFUSED,
            f"channel {channel.name} refused the message with status {codes[-1]}",
            f"Correct the address at {channel.reference}: the token, or what it names, is not valid there. "
            "When other messages arrive, it is this one that it does not take.",
        )
    return Outcome(Result.RETRY, f"channel {channel.name} answered with status {codes[-1]}")


def read_service(address: str) -> apprise.NotifyBase | None:
    """What Apprise makes of an address, with our times for waiting; None when it cannot read it."""
    library = _library()
    asset = library.AppriseAsset(app_id="Workbench", app_desc="Analytics workbench", http_redirects=False)
    made: apprise.NotifyBase | None = library.Apprise.instantiate(address, asset=asset, suppress_exceptions=True)
    if made is None or not isinstance(made, library.NotifyBase):
        return None
    made.socket_connect_timeout = min(made.socket_connect_timeout or CONNECT_SECONDS, CONNECT_SECONDS)
    made.socket_read_timeout = min(made.socket_read_timeout or ANSWER_SECONDS, ANSWER_SECONDS)
    # `body_for` cuts what is too long; what escapes make longer still is cut by Apprise.
    made.overflow_mode = library.OverflowMode.TRUNCATE
    # Another address is never given our token.
    made.redirects = False
    return made


def _hand_on_key(service: apprise.NotifyBase, notification: Notification) -> None:
    """PagerDuty opens one incident for a key, however often it is told (Events API v2, `dedup_key`)."""
    if getattr(service, "dedup", "") is None:
        # The class for PagerDuty has it, and Apprise's base class, which is its type here, does not.
        vars(service)["dedup"] = hashlib.sha256(notification.key.encode()).hexdigest()
        if notification.is_resolved and vars(service).get("action") == "trigger":
            vars(service)["action"] = "map"  # with which a success ends the incident


class _StatusOnly(logging.Filter):
    """Leaves of Apprise's lines the status alone, whoever reads them: there are addresses in the others."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, without what it said."""
        found = STATUS.search(record.getMessage())
        record.msg, record.args = found.group() if found else "a line of Apprise, not shown", ()
        record.exc_info = record.exc_text = None
        return True


@cache
def _library() -> Any:
    """Apprise, imported when something is sent: it takes a third of a second."""
    logger = logging.getLogger("apprise")
    logger.addFilter(_StatusOnly())
    logger.propagate = False
    import apprise

    return apprise
