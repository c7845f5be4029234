"""Finds a channel's address where its reference says. The address is a secret."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from workbench.errors import WorkbenchError
from workbench.observability.notifications.channels import Channel

MOST_BYTES = 8192


class Unconfigured(WorkbenchError):
    """A channel's address is not where its reference says, or others can read it."""


def find_address(channel: Channel, environment: Mapping[str, str]) -> SecretStr:
    """The address of *channel*.

    Raises:
        Unconfigured: when there is none, or its file can be read by other users.
    """
    scheme, place = channel.reference.split(":", 1)
    found = environment.get(place, "") if scheme == "env" else _from_file(channel, Path(place))
    if not found.strip():
        what = "is not set" if scheme == "env" else "is empty"
        raise Unconfigured(
            f"channel {channel.name}: {channel.reference} {what}",
            remedy="Put the channel's Apprise URL there; docs/alerts.md has examples.",
        )
    return SecretStr(found.strip())


def _from_file(channel: Channel, path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            content = file.read(MOST_BYTES)
    except OSError as error:
        raise Unconfigured(
            f"channel {channel.name}: {channel.reference} cannot be read: {error.strerror}",
            remedy="Make the file, with the channel's Apprise URL in it, readable by this user alone.",
        ) from None
    if mode & 0o077:
        raise Unconfigured(
            f"channel {channel.name}: {path} has mode {mode:04o}, and other users may read it",
            remedy=f"Run `chmod 600 {path}`, and get a new token if others use this machine.",
        )
    return content.decode("utf-8", errors="replace")
