"""Free ports on loopback."""

from __future__ import annotations

import contextlib
import errno
import random
import socket

from workbench.errors import PortTaken

LOOPBACK = "127.0.0.1"
# Below what systems give to outgoing connections: from 32768 on Linux, from 49152 on macOS.
UNASKED = range(20_000, 30_000)
TRIES = 100


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on *port* now."""
    return _bind_error(port, host) is None


def any_free() -> int:
    """A port that is free now, and that no outgoing connection takes before a server listens on it."""
    for port in random.sample(UNASKED, TRIES):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((LOOPBACK, port))
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def choose(preferred: int, *, variable: str = "", asked_for: bool = False, host: str = LOOPBACK) -> int:
    """*preferred* when it is free, else any free port.

    Raises:
        PortTaken: when it cannot be had and the user asked for it by setting *variable*.
    """
    error = _bind_error(preferred, host)
    if error is None:
        return preferred
    if not asked_for:
        return any_free()
    if error.errno == errno.EADDRINUSE:
        raise PortTaken(
            f"port {preferred} ({variable}) is in use by another program",
            remedy=f"End that program, or set {variable} to a free port.",
        )
    raise PortTaken(
        f"nothing can listen on {host}:{preferred} ({variable}): {error.strerror}",
        remedy=f"Set {variable} to a port from 1024 up, and listen on an address of this machine.",
    )


def answers(port: int, host: str = LOOPBACK, seconds: float = 1.0) -> bool:
    """Whether something accepts connections on *port*."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), seconds):
        return True
    return False


def _bind_error(port: int, host: str) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None
