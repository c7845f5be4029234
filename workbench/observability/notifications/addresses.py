"""Finds a channel's address where its reference says. The address is a secret."""

from __future__ import annotations

from pydantic import SecretStr

from workbench.errors import SecretUnavailable, WorkbenchError
from workbench.observability.notifications.channels import Channel
from workbench.references import SecretReference
from workbench.resolving import References

REMEDY = "Put the channel's Apprise URL there, readable by this user alone; docs/alerts.md has examples."


class Unconfigured(WorkbenchError):
    """A channel's address is not where its reference says, or others can read it."""


def find_address(channel: Channel, references: References) -> SecretStr:
    """The address of *channel*.

    Raises:
        Unconfigured: when there is none, or its file can be read by other users.
    """
    try:
        found = references.read(SecretReference.parse(channel.reference), remedy=REMEDY, is_private=True)
    except SecretUnavailable as error:
        raise Unconfigured(f"channel {channel.name}: {error.reference} {error.reason}", remedy=error.remedy) from None
    return SecretStr(found.get_secret_value().strip())
