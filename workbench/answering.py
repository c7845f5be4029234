"""Whether a server is there."""

from __future__ import annotations

import contextlib
import socket


def answers(port: int, host: str = "127.0.0.1", seconds: float = 1.0) -> bool:
    """Whether something accepts connections on *port*."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), seconds):
        return True
    return False
