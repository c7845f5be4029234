"""Who listens on a port of this machine: a server is routed to once it is really its owner who does."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from jupyterhub.spawner import SpawnException

POLL_SECONDS = 0.05
LISTENING = "0A"  # proc(5), /proc/net/tcp


async def wait_for_listener(spawner: Any, uid: int, *, seconds: float, log: str) -> None:
    """Wait until the port of *spawner* is listened on; whoever else took it would be sent the user's cookies.

    Args:
        spawner: with a `port`, started.
        uid: who has to listen.
        seconds: how long that may take.
        log: where the server's log is, for people.

    Raises:
        SpawnException: when the server ends before it listens, or somebody else does.
    """
    deadline = time.monotonic() + seconds
    while (owner := listener(spawner.port)) is None:
        if await spawner.poll() is not None or time.monotonic() > deadline:
            raise SpawnException(
                f"The server of {spawner.user.name} ended before it listened. Its log is in {log}.",
                reason="ended",
                status_code=500,
            )
        await asyncio.sleep(POLL_SECONDS)
    if owner != uid:
        await spawner.stop(now=True)
        raise SpawnException(
            "Another program took the port of your server. Start it again.", reason="port", status_code=500
        )


def listener(port: int) -> int | None:
    """The uid that listens on a TCP port of this machine; None when nobody does."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # no IPv6 here
            continue
        for _, local, _, state, _, _, _, uid, *_ in (line.split() for line in lines):
            if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                return int(uid)
    return None
