"""Messages to people: channels by name, declared in one file, and sent through Apprise.

A channel's address holds its secret. The file has a reference to it, the environment or a private
file has it, and no log, error or result of this package does.
"""

from workbench.observability.notifications.addresses import Unconfigured, find_address
from workbench.observability.notifications.channels import Channel, ChannelFault, Channels, load_channels, read_channels
from workbench.observability.notifications.messages import Notification, Outcome, Result, Severity
from workbench.observability.notifications.sending import SEND_SECONDS, send

__all__ = [
    "SEND_SECONDS",
    "Channel",
    "ChannelFault",
    "Channels",
    "Notification",
    "Outcome",
    "Result",
    "Severity",
    "Unconfigured",
    "find_address",
    "load_channels",
    "read_channels",
    "send",
]
