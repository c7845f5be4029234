"""Who listens on a port of this machine: a server is routed to once it is really its owner who does."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyterhub.spawner import SpawnException

POLL_SECONDS = 0.05
LISTENING = "0A"  # proc(5), /proc/net/tcp
# Where a connection to 127.0.0.1 arrives: there, or at a socket of all addresses, one of IPv6 included (ipv6(7)).
REACHED = {ipaddress.ip_address(each) for each in ("127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0")}  # noqa: S104 - compared, not bound
SEVERAL = -1  #: no uid


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
    """The uid that a connection to 127.0.0.1 and a TCP port reaches; None when nobody listens.

    SEVERAL when sockets of several users might be reached: which one is, the kernel does not tell.
    """
    tables = []
    for name in ("tcp", "tcp6"):
        try:
            tables.append(Path("/proc/net", name).read_text(encoding="ascii"))
        except OSError:  # no IPv6 here
            continue
    uids = {uid for table in tables for uid in parse_listeners(table, port)}
    return SEVERAL if len(uids) > 1 else next(iter(uids), None)


def parse_listeners(table: str, port: int) -> Iterator[int]:
    """The uids of a table of sockets (proc(5), /proc/net/tcp) that a connection to 127.0.0.1 and *port* can reach."""
    for _, local, _, state, _, _, _, uid, *_ in (line.split() for line in table.splitlines()[1:]):
        address, _, number = local.rpartition(":")
        if state == LISTENING and int(number, 16) == port and _address(address) in REACHED:
            yield int(uid)


def _address(digits: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as the kernel prints it: words of 32 bits, each in the order of bytes of this machine."""
    words = (int(digits[start : start + 8], 16) for start in range(0, len(digits), 8))
    return ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
