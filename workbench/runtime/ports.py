"""Free ports on loopback."""

from __future__ import annotations

import contextlib
import socket

from workbench.errors import PortTaken

LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on *port* now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def any_free() -> int:
    """A port that the system says is free."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def choose(preferred: int, *, variable: str = "", asked_for: bool = False, host: str = LOOPBACK) -> int:
    """*preferred* when it is free, else any free port.

    Raises:
        PortTaken: when it is taken and the user asked for it by setting *variable*.
    """
    if is_free(preferred, host):
        return preferred
    if asked_for:
        raise PortTaken(
            f"port {preferred} ({variable}) is in use by another program",
            remedy=f"End that program, or set {variable} to a free port.",
        )
    return any_free()


def answers(port: int, host: str = LOOPBACK, seconds: float = 1.0) -> bool:
    """Whether something accepts connections on *port*."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), seconds):
        return True
    return False
